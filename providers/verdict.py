"""What to do about a failed call: a value, so that one place decides and another acts."""

import dataclasses
import enum


class LimitKind(enum.StrEnum):
    RATE = "rate"
    RAMP = "ramp"
    CONCURRENCY = "concurrency"
    DAILY = "daily"


class PauseReason(enum.StrEnum):
    AUTH = "auth"
    BALANCE = "balance"
    DAILY = "daily"
    OUTAGE = "outage"


@dataclasses.dataclass(frozen=True, slots=True)
class GiveUp:
    """The same request can never succeed."""


@dataclasses.dataclass(frozen=True, slots=True)
class Transient:
    """The provider failed; the same request may succeed. Spends an attempt."""

    wait: float | None = None  # seconds, a floor set by the provider


@dataclasses.dataclass(frozen=True, slots=True)
class RateLimited:
    """Too fast. Spends no attempt."""

    kind: LimitKind
    wait: float | None = None  # seconds, a floor set by the provider
    quota: str | None = None  # which one is spent (providers/rate_limits.py), where the provider says


@dataclasses.dataclass(frozen=True, slots=True)
class Pause:
    """Nothing on this scope can succeed until something changes. Spends no attempt."""

    reason: PauseReason
    wait: float | None = None  # seconds until a probe makes sense, where the provider says


Verdict = GiveUp | Transient | RateLimited | Pause
