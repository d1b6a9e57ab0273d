"""Brings due batches on: rings a lost intake, ends the lines of stopped batches, finalizes what has no open line."""

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from worker.database import Database, DatabaseAway
from worker.doorbell import Doorbell
from worker.states import AT_REST, BatchStatus
from worker.store import due, endings, intake

log = logging.getLogger("gristmill.closer")

STOP_SECONDS = 0.5
"""So long may the end of one batch keep the other loops waiting."""


class Closer:
    """Every batch that is not at rest has a ``due_at``; nothing here is lost by being interrupted."""

    def __init__(self, database: Database, doorbell: Doorbell) -> None:
        self._database = database
        self._doorbell = doorbell

    def tick(self) -> None:
        with self._database.read() as session:
            rows = due.batches(session)
        for row in rows:
            try:
                self._bring_on(row)
            except DatabaseAway:
                raise
            except Exception:
                log.exception("batch %d cannot be brought on; the others go on without it", row.number)
                self._write(due.again, row, due.RECHECK_SECONDS)

    def _bring_on(self, row: Any) -> None:
        if row.status == BatchStatus.VALIDATING:
            self._write(due.ring_later, row)
            self._doorbell.ring_intake(row.number)
        elif row.status in AT_REST:
            if row.status != BatchStatus.FAILED or self._database.write(partial(intake.clear, number=row.number)):
                self._write(due.rest, row)
        elif row.open == 0:
            self._finalize(row)
        elif row.stop is not None or (row.late and self._database.write(partial(endings.expire, number=row.number))):
            self._stop(row)
        else:
            self._write(due.recheck, row)

    def _stop(self, row: Any) -> None:
        """Lines of leased slices end with their calls, within the grace; the others end here, some of them per tick."""
        until = time.monotonic() + STOP_SECONDS
        while self._database.write(partial(endings.stop_lines, number=row.number)):
            if time.monotonic() > until:
                return
        self._finalize(row)

    def _finalize(self, row: Any) -> None:
        if self._database.write(lambda session: endings.finalize(session, row.number)) is None:
            self._write(due.again, row, 1.0)

    def _write(self, change: Callable[..., None], row: Any, *arguments: float) -> None:
        self._database.write(lambda session: change(session, row.number, row.due_at, *arguments))
