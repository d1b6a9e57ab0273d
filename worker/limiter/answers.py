"""What the answers of a scope's calls told since the last exchange."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from providers import rate_limits
from providers.rate_limits import QuotaHeaders, QuotaState

MOST_REMEMBERED = 50
SMOOTHING = 0.05
ROOM = 0.02
LONG_FLOOR = 1.5
"""Seconds. A spent quota that names a longer wait is a window that ends then, not a bucket that refills."""
UNNAMED, CONCURRENCY = "unnamed", "concurrency"
ALARM, OF_LAST = 3, 10
"""So many 429s among the last answers stop the scope in this process until the others were heard."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """A 429: whose limit it named, the wait it named in seconds, and whether the scope rests at once."""

    cause: str = ""
    floor: float = 0.0
    force: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class News:
    """See exchange.Ask for the words. ``seen_age``: seconds since the call was sent whose headers told ``seen``."""

    answers: str
    accepted: int
    refused: int
    tokens: int
    broken: int
    cause: str
    seconds: float
    floor: float
    force: bool
    seen: Mapping[str, QuotaState]
    seen_age: float


class Answers:
    """Collected call by call; headers are only kept, the newest ones, and read when they are told."""

    latency = 0.0
    """Mean seconds of the last answers."""
    alarming = False
    """So many 429s that nothing may begin until this was told."""

    def __init__(self, dialect: tuple[QuotaHeaders, ...]) -> None:
        self._dialect = dialect
        self._sent_at = float("-inf")
        self._headers: Mapping[str, str] = {}
        self._reset()
        self._floor = 0.0
        self._force = False

    def accepted(
        self, *, seconds: float, tokens: int = 0, broken: bool = False, headers: Mapping[str, str], sent_at: float
    ) -> None:
        """An answer that is not a 429, after ``seconds``; ``sent_at`` is monotonic."""
        self._answers += "0"
        self._accepted += 1
        self._tokens += tokens
        self._broken += broken
        self._seconds += seconds
        self.latency += (seconds - self.latency) * (SMOOTHING if self.latency else 1.0)
        self._look(headers, sent_at)

    def refused(self, refusal: Refusal, *, headers: Mapping[str, str], sent_at: float) -> None:
        """A 429."""
        self._answers += "1"
        self._refused += 1
        self._cause = refusal.cause or UNNAMED
        self.alarming = self.alarming or self._answers.count("1", -OF_LAST) >= ALARM
        self._look(headers, sent_at)
        self.keep(floor=refusal.floor, force=refusal.force)

    def keep(self, *, floor: float, force: bool) -> None:
        self._floor, self._force = max(self._floor, floor), self._force or force

    def take(self) -> News:
        """Everything since the last time."""
        seen = rate_limits.read(self._headers, self._dialect) if self._headers else {}
        spent = "1" in self._answers and any(state.remaining < 1 for state in seen.values())
        news = News(
            answers=self._answers[-MOST_REMEMBERED:],
            accepted=self._accepted,
            refused=self._refused,
            tokens=self._tokens,
            broken=self._broken,
            cause=self._named_cause(seen),
            seconds=self._seconds / self._accepted if self._accepted else 0.0,
            floor=self._floor,
            force=self._force or (spent and self._floor > LONG_FLOOR),
            seen=seen,
            seen_age=time.monotonic() - self._sent_at,
        )
        self._reset()
        self._floor, self._force, self.alarming = 0.0, False, False
        return news

    def _named_cause(self, seen: Mapping[str, QuotaState]) -> str:
        """A refusal beside quotas that all have room left is one of concurrency, whatever it says."""
        if self._cause and seen and all(one.remaining > ROOM * one.limit for one in seen.values()):
            return CONCURRENCY
        return self._cause

    def _look(self, headers: Mapping[str, str], sent_at: float) -> None:
        if headers and sent_at >= self._sent_at:
            self._headers, self._sent_at = headers, sent_at

    def _reset(self) -> None:
        self._answers = ""
        self._accepted = self._refused = self._tokens = self._broken = 0
        self._cause = ""
        self._seconds = 0.0
        self._headers = {}
