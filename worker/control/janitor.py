"""The janitor: erases what was deleted or has expired, in a thread of its own, and never holds anybody up."""

import logging
import threading
import time
from collections.abc import Callable
from functools import partial

from worker import erasure
from worker.database import Database, DatabaseAway
from worker.retention import Policy

log = logging.getLogger("gristmill.janitor")

IDLE_SECONDS = 0.5
GAP_SECONDS = 0.01
"""After each portion the database is left alone for as long as the portion took, and at least for this long."""


class Janitor:
    """Works while ``leads`` is true. Two at once do no harm: each portion looks at what is left."""

    def __init__(self, database: Database, policy: Callable[[], Policy], *, leads: Callable[[], bool]) -> None:
        self._leads = leads
        self._duties = [
            _Duty(partial(erasure.erase_deleted, database), 1.0),
            _Duty(partial(erasure.erase_expired, database), 30.0),
            _Duty(lambda: erasure.retire(database, policy()), 600.0),
            _Duty(partial(erasure.forget, database), 3_600.0),
        ]
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="janitor", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """After the present portion; what is left is found again."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        wait = IDLE_SECONDS
        while not self._stopping.wait(wait):
            wait = IDLE_SECONDS
            try:
                if self._leads():
                    wait = self._work()
            except DatabaseAway as error:
                log.warning("%s; erasing goes on when it does", error)
            except Exception:
                log.exception("erasing failed and will go on")

    def _work(self) -> float:
        """One portion of each duty that is due; the seconds to wait after it."""
        began = time.monotonic()
        more = [duty.work_if_due() for duty in self._duties]
        return max(GAP_SECONDS, time.monotonic() - began) if any(more) else IDLE_SECONDS


class _Duty:
    """``work`` does one portion and says whether there is more."""

    def __init__(self, work: Callable[[], bool], seconds: float) -> None:
        self._work = work
        self._seconds = seconds
        self._next = 0.0

    def work_if_due(self) -> bool:
        if time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + self._seconds
        more = self._work()
        if more:
            self._next = 0.0
        return more
