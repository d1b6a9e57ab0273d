"""What owners can be told of their batches."""

from typing import Literal

EventType = Literal[
    "batch.completed",
    "batch.failed",
    "batch.expired",
    "batch.cancelled",
    "batch.progress",
    "batch.blocked",
    "batch.unblocked",
]

ENDED: tuple[EventType, ...] = ("batch.completed", "batch.failed", "batch.expired", "batch.cancelled")
"""OpenAI's own."""
PROGRESS: EventType = "batch.progress"
BLOCKED: EventType = "batch.blocked"
UNBLOCKED: EventType = "batch.unblocked"
WHILE_IT_RUNS: tuple[EventType, ...] = (PROGRESS, BLOCKED, UNBLOCKED)
"""Ours, for those who ask for them."""
