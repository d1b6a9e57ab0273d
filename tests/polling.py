"""Waiting for what must come: polled, with a deadline."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PAUSE_SECONDS = 0.01


def until(condition: Callable[[], T | None], deadline: float = 10.0) -> T:
    """The first true value of ``condition``; fails after ``deadline`` seconds."""
    end = time.monotonic() + deadline
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"not so after {deadline:g} s: {getattr(condition, '__qualname__', condition)}")
        time.sleep(PAUSE_SECONDS)
    return value
