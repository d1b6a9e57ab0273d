"""The script that every worker process exchanges with, and the values that go in and out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from providers.rate_limits import QUOTAS, QuotaState
from worker.catalog import ScopeLimits

SILENT_MS = 10_000
"""A process that says nothing for so long gives up its part of a scope."""


class LimiterAway(Exception):
    """Valkey does not answer: what is leased may be used up, nothing more may begin."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QuotaAsk:
    """What a process wants of one quota, and what it knows of it. Amounts are requests or tokens."""

    told: float | None = None
    """As configured, a minute or a day; the provider's own word may only lower it."""
    known: float | None = None
    """As learned earlier, for a Valkey that has forgotten."""
    want: float = 0
    least: float = 0
    """What the first waiting call lacks."""
    unspent: float = 0
    refund: float = 0
    """Given back; negative: used and not taken."""
    seen: QuotaState | None = None
    seen_age: float = 0
    """Seconds since the call was sent whose answer told ``seen``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ask:
    """One report and request. Counts are since the last exchange, but for ``busy`` and ``waiting``."""

    quotas: Mapping[str, QuotaAsk] = field(default_factory=dict)
    waiting: int = 0
    busy: int = 0
    busy_tokens: int = 0
    sent: int = 0
    accepted: int = 0
    """Answers that were not 429s."""
    accepted_tokens: int = 0
    refused: int = 0
    """Answers that were 429s."""
    broken: int = 0
    """Answers that were failures of the provider."""
    answers: str = ""
    """``0`` for each accepted one, ``1`` for each 429, in their order; the last fifty."""
    cause: str = ""
    """What the last 429 named: ``requests``, ``tokens``, ``concurrency`` or ``unnamed``."""
    seconds: float = 0
    """Mean length of the answered calls."""
    floor: float = 0
    """Longest wait that a 429 named."""
    force: bool = False
    """The floor rests the scope at once."""
    urgency: int = 0
    """Of the most urgent calls that wait: 2 held, 1 in the credit of a new batch, 0 any other."""
    urgent: Mapping[str, float] = field(default_factory=dict)
    """What these wait for: kept from processes whose calls are less urgent."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QuotaGrant:
    granted: float
    limit: float
    """A minute or a day, ``share`` taken off."""
    level: float
    by: str
    """Who told the limit: ``config``, ``headers`` or ``refusals``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Grant:
    """What it got. ``wait``: seconds until more may be granted; ``rest``: seconds in which nothing will be."""

    quotas: Mapping[str, QuotaGrant]
    slots: int
    window: float
    """Calls in flight that the scope bears, as far as is known, of all processes."""
    wait: float
    rest: float


class Exchange:
    """Runs the script. One for a process."""

    def __init__(self, redis: "Redis", process: str, prefix: str = "gristmill:scope:") -> None:
        self._script = redis.register_script(files(__package__).joinpath("take.lua").read_text())
        self._process = process
        self._prefix = prefix

    async def take(self, scope: str, limits: ScopeLimits, ask: Ask) -> Grant:
        """Raises LimiterAway."""
        key = self._prefix + scope
        keys = [key, f"{key}:processes", *(f"{key}:given:{quota}" for quota in QUOTAS)]
        try:
            answer = await self._script(keys=keys, args=[orjson.dumps(self._message(limits, ask))])
        except (RedisError, OSError) as error:
            why = str(error) if isinstance(error, ResponseError) else type(error).__name__
            raise LimiterAway(f"the limiter does not answer: {why}") from error
        return read_grant(orjson.loads(answer))

    def _message(self, limits: ScopeLimits, ask: Ask) -> dict[str, Any]:
        return {
            "process": self._process,
            "ttl": SILENT_MS,
            "share": limits.share,
            **({} if limits.concurrency is None else {"concurrency": limits.concurrency}),
            "quotas": {quota: _quota(one) for quota, one in ask.quotas.items()},
            "waiting": ask.waiting,
            "busy": ask.busy,
            "busy_tokens": ask.busy_tokens,
            "sent": ask.sent,
            "accepted": ask.accepted,
            "accepted_tokens": ask.accepted_tokens,
            "refused": ask.refused,
            "broken": ask.broken,
            "answers": ask.answers,
            "cause": ask.cause,
            "seconds": ask.seconds,
            "floor": ask.floor * 1000,
            "force": ask.force,
            "urgency": ask.urgency,
            "urgent": ask.urgent,
        }


def _quota(ask: QuotaAsk) -> dict[str, Any]:
    message: dict[str, Any] = {"want": ask.want, "least": ask.least, "unspent": ask.unspent, "refund": ask.refund}
    if ask.told is not None:
        message["told"] = ask.told
    if ask.known is not None:
        message["known"] = ask.known
    if ask.seen is not None:
        message["seen"] = {
            "limit": ask.seen.limit,
            "remaining": ask.seen.remaining,
            "reset": -1 if ask.seen.reset is None else ask.seen.reset * 1000,
            "age": ask.seen_age * 1000,
        }
    return message


def read_grant(answer: dict[str, Any]) -> Grant:
    quotas = answer["quotas"] or {}  # Lua writes an empty table as {} or [], whichever it likes
    return Grant(
        quotas={quota: QuotaGrant(**one) for quota, one in quotas.items()} if quotas else {},
        slots=int(answer["slots"]),
        window=answer["window"],
        wait=answer["wait"] / 1000,
        rest=answer["rest"] / 1000,
    )
