"""Completion windows: how long after its creation a batch expires."""

import re

DAY = 86_400.0
UNITS = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": DAY}
LONGEST = 3_650 * DAY

_DURATION = re.compile(r"([0-9]{1,9})([smhd])")


class InvalidWindow(ValueError):
    """The window must be "24h", "none", or a duration such as "90m", "36h" or "7d" of at most 10 years."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


def seconds(window: str, *, standard: float = 7 * DAY) -> float | None:
    """Seconds of a window, or None for no window at all.

    OpenAI clients can only say ``24h``, so it means ``standard``; any other duration is taken as said.
    """
    if window == "none":
        return None
    if window == "24h":
        return standard
    found = _DURATION.fullmatch(window)
    length = int(found[1]) * UNITS[found[2]] if found else 0.0
    if not 0 < length <= LONGEST:
        raise InvalidWindow
    return length
