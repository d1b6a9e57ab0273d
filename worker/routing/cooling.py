"""Scopes that have failed several times in a row: for some seconds others are preferred."""

import time

FAILURES = 5
"""So many failures without an answer between them. Of random ones, 1 in 20, this is one in three million calls."""


class Cooling:
    """What this process found, and what others have said."""

    def __init__(self) -> None:
        self._streaks: dict[str, int] = {}
        self._until: dict[str, float] = {}

    def left(self, scope: str) -> float:
        """Seconds; 0 for a scope that may be called."""
        return max(0.0, self._until.get(scope, 0.0) - time.monotonic())

    def stumbled(self, scope: str, seconds: float) -> bool:
        """A failure, or a refusal for the rate. True if the scope cools from now on."""
        self._streaks[scope] = self._streaks.get(scope, 0) + 1
        if self._streaks[scope] < FAILURES or self.left(scope):
            return False
        self._streaks[scope] = 0
        self._until[scope] = time.monotonic() + seconds
        return True

    def avoid(self, scope: str, seconds: float) -> None:
        """Whatever the streak is."""
        self._until[scope] = max(self._until.get(scope, 0.0), time.monotonic() + seconds)

    def fine(self, scope: str) -> None:
        self._streaks.pop(scope, None)

    def refresh(self, told: dict[str, float]) -> None:
        """Seconds left, as other processes have stored them. What was found here is never forgotten for it."""
        for scope, seconds in told.items():
            self.avoid(scope, seconds)
