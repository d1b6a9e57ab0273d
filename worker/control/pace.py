"""How fast lines have ended lately."""

from collections import deque

LEAST_SECONDS, LEAST_LINES = 30.0, 30
"""The time looked back to holds both, so that neither slow models nor bursts make the figure jump."""
LONGEST_SECONDS = 900.0
KNOWN_SECONDS = 5.0
"""What was seen for a shorter time tells nothing."""


class Pace:
    """Lines a second of one kind of work, while there was any to do."""

    def __init__(self) -> None:
        self._moments: deque[tuple[float, int]] = deque()
        self._ended = 0

    def add(self, at: float, ended: int) -> None:
        """So many lines ended since the last time. Nothing counts before the first has ended: calls take their time."""
        if not self._moments and ended == 0:
            return
        self._ended += ended if self._moments else 0
        self._moments.append((at, self._ended))
        while len(self._moments) > 2 and self._is_enough(at, self._moments[1]):
            self._moments.popleft()

    def rest(self) -> None:
        """There was nothing to do, or nothing could be done."""
        self._moments.clear()

    @property
    def per_second(self) -> float | None:
        """None while it is not known."""
        if not self._moments:
            return None
        (first, before), (last, after) = self._moments[0], self._moments[-1]
        return (after - before) / (last - first) if last - first >= KNOWN_SECONDS else None

    def _is_enough(self, now: float, moment: tuple[float, int]) -> bool:
        at, ended = moment
        return now - at >= LONGEST_SECONDS or (now - at >= LEAST_SECONDS and self._ended - ended >= LEAST_LINES)
