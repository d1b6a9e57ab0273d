"""The engine: one loop thread a process, with the client, the gate, the recorder and the slices at work."""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Collection, Coroutine, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

import redis.asyncio
from sqlmodel import Session

from providers.client import Client
from providers.deployment import Deployment
from worker import open_files, owner
from worker.blobs import BlobMissing, Blobs
from worker.catalog import Catalog
from worker.database import Database, DatabaseAway
from worker.engine.bodies import Bodies
from worker.engine.forecasts import Forecasts
from worker.engine.recorder import Recorder
from worker.engine.reporter import Reporter
from worker.engine.rests import Rests
from worker.engine.slice_run import SliceRun
from worker.key_watch import KeyWatch
from worker.limiter.exchange import Exchange
from worker.limiter.gate import Gate, ProcessBudget, ScopeGate
from worker.routes import RouteError
from worker.routing.router import Router
from worker.settings import Settings
from worker.store import held, held_claims, processes, scope_reports, scopes, slices, watching
from worker.store.calls import BatchView
from worker.store.slices import Claim

log = logging.getLogger("gristmill.engine")

WATCH_SECONDS = 1.0
REPORT_SECONDS = 3.0


class Engine:
    """Runs slices for Celery's threads. ``start`` before the first task, ``drain`` and ``close`` at the end."""

    client: Client
    recorder: Recorder

    def __init__(
        self,
        *,
        settings: Settings,
        database: Database,
        catalog: Catalog,
        keys: KeyWatch,
        blobs: Blobs,
        redis_url: str,
    ) -> None:
        self.settings = settings
        self.catalog = catalog
        self._keys = keys
        self.bodies = Bodies(blobs)
        self.process = owner.myself()
        self._database = database
        self._redis_url = redis_url
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run_loop, name="engine", daemon=True)
        self._runs: dict[tuple[int, int], SliceRun] = {}
        self._taken_over: set[asyncio.Task[None]] = set()
        self.forecasts = Forecasts()
        self.rests = Rests(self._in_thread)
        self.reporter = Reporter(catalog.limits_of)
        self.router = Router(catalog, self.rests, self.gate_of)
        self._stop_seen: dict[int, float] = {}
        self._held_before: set[tuple[int, int]] = set()
        self._alone: asyncio.Lock
        self._tasks: list[asyncio.Task[None]] = []
        self.draining = False

    def start(self, name: str, queues: list[str], slots: int) -> None:
        """Open everything. Raises DatabaseAway."""
        self._database.write(lambda session: processes.register(session, self.process, name, queues, slots))
        self._keys.look()
        open_files.allow(self.settings.max_in_flight)
        self._thread.start()
        self._submit(self._open()).result()

    def execute(self, slice: int, epoch: int, probe: str | None) -> None:
        """The body of a Celery task: claim the slice and see it through. A repeated message finds nothing to claim."""
        if self.draining:
            return
        if probe is not None:
            self._keys.look()  # it may be the key that somebody has just mended
        claim = self._database.write(
            lambda session: slices.claim(session, slice, epoch, self.process, self.settings.lease_seconds)
        )
        if claim is not None:
            self._prepare(claim)
            self._submit(self._execute(claim, probe)).result()

    def take_over(self, chosen: Sequence[tuple[int, int]], probe: str | None) -> None:
        """Claim (slice, epoch) pairs in one transaction and return: they run on the loop, and ``close`` awaits them."""
        if self.draining:
            return
        lease = self.settings.lease_seconds
        claims = self._database.write(lambda session: held_claims.claim(session, chosen, self.process, lease))
        for claimed in {claimed.route: claimed for claimed in claims}.values():
            self._prepare(claimed)
        self._loop.call_soon_threadsafe(self._run_all, claims, probe)

    def drain(self) -> None:
        """No call begins any more; calls in flight have the grace of ``drain_seconds``. Returns at once."""
        if not self.draining:
            self.draining = True
            self._loop.call_soon_threadsafe(self._drain)

    def close(self) -> None:
        """After Celery has ended: flush, leave, stop the loop."""
        self._submit(self._close()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        try:
            self._database.write(lambda session: processes.leave(session, self.process))
        except DatabaseAway:
            log.warning("could not sign off: the leases end by themselves")

    def gate_of(self, deployment: Deployment) -> ScopeGate:
        return self._gate.scope(deployment.scope, self.catalog.limits(deployment))

    async def held_body(self, claim: Claim) -> bytes:
        """The request of a held job. Raises BlobError."""
        if claim.body is not None:
            return claim.body
        body = await self._in_read(partial(held.body, number=claim.batch))
        if body is None:
            raise BlobMissing("the request of this job was deleted")
        return bytes(body)

    async def release(self, claim: Claim, *, wait: float | None, waits: tuple[tuple[int, float, int], ...]) -> None:
        """Give a slice back. If the database stays away for the rest of the lease, the lease ends by itself."""
        change = partial(slices.release, slice=claim.slice, epoch=claim.epoch, wait=wait, waits=waits)
        deadline = time.monotonic() + self.settings.lease_seconds
        while True:
            try:
                await self._in_thread(change)
                return
            except DatabaseAway:
                if self.draining or time.monotonic() > deadline:
                    return
                await asyncio.sleep(1.0)

    def _prepare(self, claim: Claim) -> None:
        """Look up prices on this thread: the first look into their list takes half a second of CPU."""
        try:
            self.catalog.token_prices(claim.serving)
        except RouteError as error:
            log.warning("no deployment for %s any more: %s", claim.serving, error)

    async def _open(self) -> None:
        settings = self.settings
        self.client = Client()
        self._redis = redis.asyncio.Redis.from_url(self._redis_url, socket_timeout=5, socket_connect_timeout=5)
        budget = ProcessBudget(settings.max_in_flight, settings.max_body_bytes)
        self._gate = Gate(Exchange(self._redis, self.process), budget, _die_if_failed)
        self._alone = asyncio.Lock()
        self.recorder = Recorder(
            self._database, self.process, gap=settings.flush_gap_seconds, rows=settings.flush_rows, seen=self._see
        )
        await self._refresh_rests()
        for work in (self.recorder.run, self._beat_for_ever, self._watch_for_ever, self._report_for_ever):
            task = self._loop.create_task(work())
            task.add_done_callback(_die_if_failed)
            self._tasks.append(task)

    async def _execute(self, claim: Claim, probe: str | None) -> None:
        run = SliceRun(self, self.router.priced(claim), probe)
        self._runs[(claim.slice, claim.epoch)] = run
        if self.draining:
            run.stop()
        try:
            if claim.alone:
                async with self._alone:
                    await run.execute()
            else:
                await run.execute()
        finally:
            del self._runs[(claim.slice, claim.epoch)]

    def _run_all(self, claims: Sequence[Claim], probe: str | None) -> None:
        for claim in claims:
            run = self._loop.create_task(self._execute(claim, probe))
            self._taken_over.add(run)
            run.add_done_callback(self._end_run)

    def _end_run(self, run: asyncio.Task[None]) -> None:
        self._taken_over.discard(run)
        if not run.cancelled() and run.exception() is not None:
            log.error("a held job's slice ended badly; its lease says the truth", exc_info=run.exception())

    def _drain(self) -> None:
        for run in self._runs.values():
            run.stop()
        self._loop.call_later(self.settings.drain_seconds, self._abandon_all)

    def _abandon_all(self) -> None:
        for run in self._runs.values():
            run.abandon()

    async def _close(self) -> None:
        await asyncio.gather(*self._taken_over, return_exceptions=True)
        try:
            async with asyncio.timeout(self.settings.drain_seconds + 5):
                await self.recorder.flushed()
        except TimeoutError:
            log.error("%d answers could not be stored before the end", self.recorder.backlog)
        for task in self._tasks:
            task.remove_done_callback(_die_if_failed)
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.rests.close()
        await self._gate.close()
        await self.client.__aexit__(None, None, None)
        await self._redis.aclose()
        self.bodies.close()

    async def _beat_for_ever(self) -> None:
        """Renew the leases of all runs in one UPDATE. A lost one stops its run; its answers are stored all the same."""
        while True:
            try:
                kept = await self._in_thread(partial(self._beat, running={slice for slice, _ in self._runs}))
            except DatabaseAway as error:
                log.warning("%s; the leases could not be renewed", error)
                await asyncio.sleep(1.0)
                continue
            for key, run in list(self._runs.items()):
                if key not in kept and key in self._held_before:
                    log.warning("the lease of slice %d was lost", key[0])
                    run.stop()
            self._held_before = set(self._runs)
            await asyncio.sleep(self.settings.heartbeat_seconds)

    def _beat(self, session: Session, running: Collection[int]) -> set[tuple[int, int]]:
        processes.beat(session, self.process)
        return slices.renew(session, self.process, self.settings.lease_seconds, running)

    async def _watch_for_ever(self) -> None:
        """Learn of cancels, pauses, resting scopes and keys that others have written."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            try:
                await self._loop.run_in_executor(None, self._keys.look)
                await self._refresh_rests()
                batches = {run.claim.batch for run in self._runs.values()}
                if batches:
                    self._see(await self._in_read(partial(watching.views, numbers=batches)))
            except DatabaseAway as error:
                log.warning("%s", error)

    async def _report_for_ever(self) -> None:
        """Tell the others how the scopes stand. What cannot be told now is told next time."""
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            news = self.reporter.news(self._gate.reports())
            if not news:
                continue
            try:
                await self._in_thread(partial(scope_reports.store, process=self.process, reports=news))
                self.reporter.stored(news)
            except DatabaseAway as error:
                log.warning("%s", error)

    async def _refresh_rests(self) -> None:
        unsaved = self.rests.unsaved
        paused, cooling = await self._in_read(lambda session: (scopes.paused(session), scopes.cooling(session)))
        self.rests.refresh(paused, unsaved, cooling)

    def _see(self, views: dict[int, BatchView]) -> None:
        for number, view in views.items():
            if view.stop or view.held:
                runs = [run for run in self._runs.values() if run.claim.batch == number]
                for run in runs:
                    run.stop()
                if view.stop and runs and number not in self._stop_seen:
                    self._stop_seen[number] = time.monotonic()
                    self._loop.call_later(self.settings.cancel_grace_seconds, self._end_grace, number)

    def _end_grace(self, number: int) -> None:
        self._stop_seen.pop(number, None)
        for run in self._runs.values():
            if run.claim.batch == number:
                run.abandon()

    async def _in_thread(self, change: Any) -> Any:
        return await self._database.written(change)

    async def _in_read(self, look: Any) -> Any:
        def read() -> Any:
            with self._database.read() as session:
                return look(session)

        return await self._loop.run_in_executor(None, read)

    def _submit(self, work: Coroutine[Any, Any, Any]) -> "Future[Any]":
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()


def _die_if_failed(task: "asyncio.Task[None]") -> None:
    """Without its recorder or its heartbeat a worker must not go on: the process ends, and its leases with it."""
    if not task.cancelled() and task.exception() is not None:
        log.critical("the engine has failed", exc_info=task.exception())
        threading.Thread(target=_exit, daemon=True).start()


def _exit() -> None:
    os._exit(70)
