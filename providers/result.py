"""A successful answer."""

import collections.abc
import dataclasses
import enum

from providers import cost as costs
from providers import usage as usages


class Ending(enum.StrEnum):
    """How an answer ended. With several choices the least complete one decides."""

    COMPLETE = "complete"
    TRUNCATED = "truncated"
    FILTERED = "filtered"
    REFUSED = "refused"
    EMPTY = "empty"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ProviderResult:
    """What the provider answered: a body of one line of valid JSON, its own bytes but for line breaks."""

    status_code: int
    request_id: str | None
    body: bytes
    model: str | None  # the served model, as the provider names it
    fingerprint: str | None
    usage: usages.Usage | None  # None: absent or not believable
    cost: costs.Cost | None  # only what the provider itself says; prices are applied by pricing.PriceBook
    ending: Ending
    headers: collections.abc.Mapping[str, str]  # rate headers only, lower case
