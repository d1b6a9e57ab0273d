"""How long a job waits before it is called again: what the provider asked, or full jitter."""

import random

FIRST_SECONDS = 0.5
LONGEST_SECONDS = 60.0
LIMITED_FIRST_SECONDS = 1.0


def transient(failures: int, asked: float | None) -> float:
    """After the n-th failure (from 1): uniform in [0, 0.5 x 2^n] seconds, at most 60, never less than was asked."""
    return max(asked or 0.0, _jittered(FIRST_SECONDS * 2.0 ** min(failures, 20)))


def limited(refusals: int, asked: float | None) -> float:
    """After the n-th 429 in a row: the wait it named and a little, so that not all come back at once."""
    if asked is not None:
        return asked + random.uniform(0.0, 0.25)
    return 0.5 + _jittered(LIMITED_FIRST_SECONDS * 2.0 ** min(refusals, 20))


def _jittered(longest: float) -> float:
    return random.uniform(0.0, min(LONGEST_SECONDS, longest))
