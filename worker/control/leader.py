"""The control loops: one thread, elected by an SQL lease, that dispatches, reaps and closes."""

import logging
import threading
import time
from collections.abc import Callable
from functools import partial

from worker import erasure
from worker.blobs import Blobs
from worker.catalog import Catalog
from worker.control.closer import Closer
from worker.control.dispatcher import Dispatcher
from worker.control.herald import Herald
from worker.control.janitor import Janitor
from worker.control.reaper import Reaper
from worker.control.timekeeper import Timekeeper
from worker.database import Database, DatabaseAway
from worker.doorbell import Doorbell
from worker.key_watch import KeyWatch
from worker.settings import Settings
from worker.store import idempotency, processes, webhooks
from worker.webhooks.deliverer import Deliverer

log = logging.getLogger("gristmill.control")

TICK_SECONDS = 0.2
TERM_SECONDS = 10.0
RENEW_SECONDS = 3.0
KEY_SECONDS = 1.0


class Leader:
    """Runs the loops while it leads. Two leaders for a moment do no harm: every move is guarded in SQL."""

    def __init__(
        self,
        *,
        database: Database,
        catalog: Catalog,
        keys: KeyWatch,
        doorbell: Doorbell,
        blobs: Blobs,
        process: str,
        settings: Settings,
    ) -> None:
        self._database = database
        self._process = process
        self._dispatcher = Dispatcher(database, catalog, doorbell, settings.lease_seconds)
        self._reaper = Reaper(database, settings.lease_seconds)
        self._closer = Closer(database, doorbell)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)
        self._leads_until = 0.0
        self._chores: list[_Chore] = [
            _Chore(self._dispatcher.tick, TICK_SECONDS),
            _Chore(self._closer.tick, TICK_SECONDS),
            _Chore(self._reaper.sweep, 2.0),
            _Chore(self._dispatcher.merge_small, 2.0),
            _Chore(Herald(database, catalog).tick, 1.0),
            _Chore(Timekeeper(database, catalog).tick, 2.0),
            _Chore(partial(erasure.erase, database, blobs), 10.0),
            _Chore(partial(erasure.sweep, database, blobs), 600.0),
            _Chore(partial(idempotency.sweep, database), 600.0),
            _Chore(partial(database.write, webhooks.remove_unused), 600.0),
        ]
        self._deliverer = Deliverer(
            database,
            leads=lambda: time.monotonic() < self._leads_until,
            private=settings.webhook_allow_private,
            scale=settings.webhook_time_scale,
        )
        self._always = (_Chore(self._beat_heart, settings.heartbeat_seconds), _Chore(keys.look, KEY_SECONDS))
        self._janitor = Janitor(
            database, lambda: catalog.config.retention.policy, leads=lambda: time.monotonic() < self._leads_until
        )

    def start(self) -> None:
        self._thread.start()
        self._deliverer.start()
        self._janitor.start()

    def stop(self) -> None:
        """Let the present chore end, and resign so that another may lead at once."""
        self._stopping.set()
        self._thread.join()
        self._deliverer.stop()
        self._janitor.stop()
        try:
            self._database.write(lambda session: processes.resign(session, "control", self._process))
        except DatabaseAway:
            log.warning("could not resign: the leadership ends by itself in %.0f s", TERM_SECONDS)

    def _run(self) -> None:
        while not self._stopping.wait(TICK_SECONDS / 2):
            try:
                for chore in self._always:
                    chore.run_if_due()
                if self._leads():
                    for chore in self._chores:
                        chore.run_if_due()
            except DatabaseAway as error:
                log.warning("%s; the control loops go on when it does", error)
                self._stopping.wait(1.0)
            except Exception:
                log.exception("a control loop failed and will run again")
                self._stopping.wait(1.0)

    def _beat_heart(self) -> None:
        self._database.write(lambda session: processes.beat(session, self._process))

    def _leads(self) -> bool:
        now = time.monotonic()
        if now > self._leads_until - TERM_SECONDS + RENEW_SECONDS:
            leads = self._database.write(
                lambda session: processes.lead(session, "control", self._process, TERM_SECONDS)
            )
            self._leads_until = now + TERM_SECONDS if leads else 0.0
            if not leads:
                self._stopping.wait(1.0)
        return time.monotonic() < self._leads_until


class _Chore:
    def __init__(self, work: Callable[[], object], seconds: float) -> None:
        self._work = work
        self._seconds = seconds
        self._next = 0.0

    def run_if_due(self) -> None:
        if time.monotonic() >= self._next:
            self._work()
            self._next = time.monotonic() + self._seconds
