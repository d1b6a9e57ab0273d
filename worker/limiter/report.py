"""What a process knows of a scope, for those who choose between scopes and for those who ask why a batch waits."""

from collections.abc import Mapping
from dataclasses import dataclass

from worker.limiter.exchange import QuotaGrant


@dataclass(frozen=True, kw_only=True, slots=True)
class ScopeReport:
    """As of the last exchange. Seconds; ``in_flight`` and ``waiting`` are this process's calls alone."""

    scope: str
    quotas: Mapping[str, QuotaGrant]
    window: float
    """Calls in flight that the scope bears, of all processes; as far as is known."""
    in_flight: int
    waiting: int
    rest: float
    share: float
    """That was taken off the quotas' limits."""
    latency: float
    """Mean length of the last calls; 0 while there was none."""
