"""Watching a batch until nothing more will come of it."""

import enum
import time
from dataclasses import dataclass

from api import schemas
from api.cli import faults, progress
from api.cli.server_link import Link

AT_REST = frozenset({"failed", "completed", "expired", "cancelled"})
QUICK_POLL_SECONDS, POLL_SECONDS = 0.1, 0.5
QUICK_SECONDS = 5.0
"""A small batch is over in this time; a long one need not be asked so often."""
SETTLE_SECONDS = 3.0
"""What only a person can lift must stand this long, for a block is seen a moment before the last answers are."""
LIFTED_BY_PEOPLE = frozenset({"max_cost", "failing_alike", "unknown_cost"})


class Ending(enum.Enum):
    REST = "at rest"
    LIMIT = "--limit reached"
    CAPPED = "--max-cost reached"
    FAILING = "lines fail alike"
    BLOCKED = "blocked for too long"


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """When to stop waiting. ``blocked_seconds`` None: never for a block that may lift by itself."""

    limit: int | None = None
    blocked_seconds: float | None = None


def validated(link: Link, id: str, display: progress.Display) -> schemas.Batch:
    """The batch as soon as its lines are checked."""
    while (batch := _ask(link, id, display)).status == "validating":
        display.show(batch)
        time.sleep(QUICK_POLL_SECONDS)
    return batch


def follow(link: Link, id: str, display: progress.Display, patience: Patience) -> tuple[schemas.Batch, Ending]:
    """Show the batch until it rests, reaches its limit or cap, or is blocked for longer than we wait."""
    stall = _Stall()
    quick_until = time.monotonic() + QUICK_SECONDS
    while True:
        batch = _ask(link, id, display)
        display.show(batch)
        if batch.status in AT_REST:
            return batch, Ending.REST
        if _reached(batch, patience.limit):
            return batch, Ending.LIMIT
        seconds = stall.seconds(batch)
        reasons = {block.reason for block in batch.gristmill.blocked_by}
        if seconds >= SETTLE_SECONDS and reasons and reasons <= LIFTED_BY_PEOPLE:
            return batch, Ending.CAPPED if "max_cost" in reasons else Ending.FAILING
        if patience.blocked_seconds is not None and seconds >= patience.blocked_seconds:
            return batch, Ending.BLOCKED
        time.sleep(QUICK_POLL_SECONDS if time.monotonic() < quick_until else POLL_SECONDS)


def _ask(link: Link, id: str, display: progress.Display) -> schemas.Batch:
    """A server that went away is found or started again; the batch goes on where it was."""
    while True:
        try:
            return link.client.batch(id)
        except faults.ServerGone:
            display.note("the server does not answer; looking for it")
            link.recover()


def _reached(batch: schemas.Batch, limit: int | None) -> bool:
    return (
        limit is not None
        and batch.status == "in_progress"
        and limit < batch.request_counts.total
        and progress.done(batch) >= limit
        and batch.gristmill.in_flight == 0
    )


class _Stall:
    """For how long all open lines have been blocked: nothing in flight, nothing done, and a reason for it."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._done = -1

    def seconds(self, batch: schemas.Batch) -> float:
        now = time.monotonic()
        extension = batch.gristmill
        is_blocked = bool(extension.blocked_by) or extension.paused
        if not is_blocked or extension.in_flight or progress.done(batch) != self._done:
            self._since, self._done = None, progress.done(batch)
            return 0.0
        if self._since is None:
            self._since = now
        return now - self._since
