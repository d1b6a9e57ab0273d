"""Whether a scope still makes progress: streaks of failures that are an outage, and minutes of nothing but 429s."""

import time
from dataclasses import dataclass, field
from typing import Protocol

OUTAGE_LINES = 20
"""So many different lines that fail in a row. A few that always fail are not the provider's fault, however often."""
NO_PROGRESS_SECONDS = 600.0


class Refundable(Protocol):
    """A job whose failed attempt turns out to have been the outage's fault."""

    @property
    def id(self) -> int: ...

    def refund(self) -> None: ...


@dataclass(slots=True)
class Health:
    """One scope's, in one process."""

    _streak: list[Refundable] = field(default_factory=list)
    _only_429_since: float | None = None

    def fine(self) -> None:
        """Any answer that is neither a failure of the provider nor a 429."""
        self._streak.clear()
        self._only_429_since = None

    def failed(self, job: Refundable) -> bool:
        """A 5xx, a timeout or a broken connection. True when it is an outage; the streak's attempts are given back."""
        self._streak.append(job)
        if len({one.id for one in self._streak}) < OUTAGE_LINES:
            return False
        for one in self._streak:
            one.refund()
        self._streak.clear()
        return True

    def limited(self) -> bool:
        """A 429. True when nothing else has come for ten minutes."""
        self._streak.clear()
        now = time.monotonic()
        if self._only_429_since is None:
            self._only_429_since = now
        return now - self._only_429_since > NO_PROGRESS_SECONDS
