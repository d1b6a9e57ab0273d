"""Intakes at work in the control process: so many at once, so that held jobs always find a thread."""

import logging
import threading
from collections import deque

from worker.database import DatabaseAway
from worker.intake.intake import Intake

log = logging.getLogger("gristmill.worker")


class Intakes:
    """Whoever comes when all places are taken leaves its batch to those that work, and goes."""

    def __init__(self, intake: Intake, places: int) -> None:
        self._intake = intake
        self._free = places
        self._waiting: deque[int] = deque()
        self._lock = threading.Lock()

    def take_in(self, batch: int) -> None:
        """Read input files until none waits. One that cannot end, or waits at the end of the process, is rung again."""
        with self._lock:
            if batch not in self._waiting:
                self._waiting.append(batch)
            if self._free == 0:
                return
            self._free -= 1
        while (number := self._next()) is not None:
            try:
                self._intake.take_in(number)
            except DatabaseAway as error:
                log.warning("the intake of batch %d was interrupted: %s", number, error)
            except Exception:
                log.exception("the intake of batch %d failed; it is rung again", number)

    def _next(self) -> int | None:
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            self._free += 1
            return None
