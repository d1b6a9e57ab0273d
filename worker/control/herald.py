"""Tells owners who asked for it how their batches go while they run."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from worker.catalog import Catalog
from worker.database import Database
from worker.store import notices, progress
from worker.store.notices import Noted
from worker.store.progress import Block, Progress
from worker.tables import Batch
from worker.webhooks.event_types import BLOCKED, PROGRESS, UNBLOCKED

PROGRESS_SECONDS = 10.0
"""At most one progress of a batch in this time."""
BLOCKED_SECONDS = 3.0
"""What ends sooner is not worth a message."""
PICO = 10**12


class Herald:
    """Only the elected leader ticks; two at once note nothing twice."""

    def __init__(self, database: Database, catalog: Catalog, *, seconds: float = PROGRESS_SECONDS) -> None:
        self._database = database
        self._catalog = catalog
        self._seconds = seconds

    def tick(self) -> None:
        with self._database.read() as session:
            wanted = notices.wanted(session)
            if not wanted:
                return
            now = progress.now(session)
            batches = [batch for batch, _ in wanted]
            known = progress.of(session, batches, scopes_of=self._catalog.scopes, errors=0)
            news = [(batch, types, notices.noted(session, batch)) for batch, types in wanted]
        for batch, types, noted in news:
            if PROGRESS in types:
                self._tell_progress(batch, noted, now)
            if types & {BLOCKED, UNBLOCKED}:
                self._tell_block(batch, noted, known[batch.number or 0], now)

    def _tell_progress(self, batch: Batch, noted: Noted, now: float) -> None:
        assert batch.number is not None
        data, last = _progress(batch), noted.progress
        if last is None or (last.data != data and last.created_at <= now - self._seconds):
            note = partial(notices.note_progress, number=batch.number, data=data, seconds=self._seconds)
            self._database.write(note)

    def _tell_block(self, batch: Batch, noted: Noted, known: Progress, now: float) -> None:
        begins = any(block.since <= now - BLOCKED_SECONDS for block in known.blocks) and not noted.is_blocked
        if begins or (noted.is_blocked and not known.blocks):
            blocks = [_block(block) for block in known.blocks]
            self._database.write(partial(notices.note_block, number=batch.number or 0, blocks=blocks))


def _progress(batch: Batch) -> Mapping[str, Any]:
    return {
        "status": batch.status,
        "request_counts": {"total": batch.total, "completed": batch.completed, "failed": batch.failed},
        "cost_usd": batch.cost / PICO if batch.cost or not batch.unknown_cost else None,
        "unknown_cost": batch.unknown_cost,
        "generation": batch.generation,
    }


def _block(block: Block) -> Mapping[str, Any]:
    return {
        "scope": block.scope,
        "model": block.model,
        "reason": block.reason,
        "since": int(block.since),
        "detail": block.detail,
    }
