"""The limits of scopes on the wire: (provider, account, model), whose quota a call spends."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class ShareChange(BaseModel):
    """The part of every limit of the scope that may be used; null: as configured."""

    model_config = ConfigDict(extra="forbid", strict=True)

    share: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None


class Quota(BaseModel):
    """``limit`` is the provider's, ``usable`` our share of it. ``left`` is null while nobody uses the scope."""

    quota: str
    limit: float
    usable: float
    per: Literal["minute", "day"]
    source: str
    """``config``, ``headers`` or ``refusals``: who told it."""
    learned_at: int | None
    left: float | None


class Pause(BaseModel):
    """Calls wait; at ``probe_at`` one of them finds out whether that is over."""

    reason: str
    detail: str | None
    since: int
    probe_at: int


class Scope(BaseModel):
    """``places``: calls in flight that the scope bears, as far as is known. Counts are of the last minute."""

    object: Literal["limit"] = "limit"
    scope: str
    share: float
    share_source: Literal["config", "set"]
    quotas: list[Quota]
    concurrency: int | None
    """As configured."""
    places: float | None
    in_flight: int
    waiting: int
    seconds: float | None
    """Mean length of the last calls."""
    requests: int
    tokens: int
    resting_until: int | None
    """The provider asked for it."""
    paused: Pause | None
    batches: list[str]
    """Running batches with lines for it, at most 20 of ``batches_total``."""
    batches_total: int


class Configuration(BaseModel):
    """gristmill.yaml as this server has it: ``fault`` is why the newest edit is not in force."""

    path: str | None
    fault: str | None
    postponed: tuple[str, ...]
    """What counts from the next start on."""


class ScopeList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Scope]
    configuration: Configuration | None
    """For the server machine's own user only."""
