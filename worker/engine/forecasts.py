"""How much of its estimated output a batch's model really writes: learned from the answers, for quotas only.

Budgets keep to the estimate of intake, which errs on the dear side.
"""

SMOOTHING = 0.05
ENOUGH = 20
"""Answers after which they count."""
MARGIN = 1.2
"""Above the mean: answers of one batch differ."""
MOST_FORECASTS = 4096


class Forecasts:
    """One for a process; a batch whose share was forgotten is estimated as at first."""

    def __init__(self) -> None:
        self._parts: dict[tuple[int, str], tuple[int, float]] = {}

    def note(self, batch: int, route: str, estimated: int, real: int) -> None:
        """An answer used ``real`` output tokens."""
        if estimated <= 0:
            return
        count, mean = self._parts.pop((batch, route), (0, 0.0))
        count += 1
        mean += (real / estimated - mean) * max(SMOOTHING, 1 / count)
        self._parts[(batch, route)] = (count, mean)
        if len(self._parts) > MOST_FORECASTS:
            del self._parts[next(iter(self._parts))]

    def output_tokens(self, batch: int, route: str, estimated: int) -> int:
        """What a call will probably write; never more than was estimated."""
        count, mean = self._parts.get((batch, route), (0, 1.0))
        return estimated if count < ENOUGH else min(estimated, max(1, round(estimated * mean * MARGIN)))
