"""How often Python looks for cycles that nobody holds any more."""

import gc

COLLECT_AFTER = (20_000, 20, 50)
"""Python's default (700, 10, 10) took a fifth of a provider worker's CPU, and found nearly nothing."""


def collect_rarely() -> None:
    """Called once all is imported: what lives by now is never looked at again, and what comes is looked at seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
