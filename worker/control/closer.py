"""Brings due batches on: rings a lost intake, ends the lines of stopped batches, finalizes what has no open line."""

import logging
import time
from functools import partial

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
                self._bring_on(row.number, BatchStatus(row.status), row.stop, row.open, row.late)
            except DatabaseAway:
                raise
            except Exception:
                log.exception("batch %d cannot be brought on; the others go on without it", row.number)
                self._database.write(partial(due.again, number=row.number, seconds=due.RECHECK_SECONDS))

    def _bring_on(self, number: int, status: BatchStatus, stop: str | None, open_lines: int, late: bool) -> None:
        write = self._database.write
        if status is BatchStatus.VALIDATING:
            write(lambda session: due.ring_later(session, number))
            self._doorbell.ring_intake(number)
        elif status in AT_REST:
            if status is not BatchStatus.FAILED or write(lambda session: intake.clear(session, number)):
                write(lambda session: due.rest(session, number))
        elif open_lines == 0:
            self._finalize(number)
        elif stop is not None or (late and write(lambda session: endings.expire(session, number))):
            self._stop(number)
        else:
            write(lambda session: due.recheck(session, number))

    def _stop(self, number: int) -> None:
        """Lines of leased slices end with their calls, within the grace; the others end here, some of them per tick."""
        until = time.monotonic() + STOP_SECONDS
        while self._database.write(partial(endings.stop_lines, number=number)):
            if time.monotonic() > until:
                return
        self._finalize(number)

    def _finalize(self, number: int) -> None:
        if self._database.write(lambda session: endings.finalize(session, number)) is None:
            self._database.write(lambda session: due.again(session, number, 1.0))
