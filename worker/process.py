"""A worker process: a Celery worker on threads beside the engine (provider queues) or the control loops."""

import argparse
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from typing import Any

from celery import Celery
from celery.signals import worker_shutting_down

from worker import celery_app, owner, settings
from worker.control.leader import Leader
from worker.database import DatabaseAway
from worker.doorbell import CeleryDoorbell
from worker.engine.engine import Engine
from worker.intake.intake import Intake
from worker.store import processes
from worker.wiring import Wiring, wire

log = logging.getLogger("gristmill.worker")

TITLE = "gristmill-worker"
"""Stands in the command line of every worker process."""
CONTROL_SLOTS = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM, or until standard input ends if ``--lifeline`` says that the parent holds it."""
    parser = argparse.ArgumentParser(prog=TITLE)
    parser.add_argument("title", nargs="?", help="shown in process lists")
    parser.add_argument("--control", action="store_true", help="serve the control queue instead of providers")
    parser.add_argument("--providers", default="", help="comma-separated; all that are known if left out")
    parser.add_argument("--name", default="", help="shown in Flower before the host's name")
    parser.add_argument("--slots", type=int, default=0, help="slices at work at once")
    parser.add_argument("--lifeline", action="store_true", help="end when standard input ends")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)
    logging.getLogger("celery.worker.strategy").setLevel(logging.WARNING)
    logging.getLogger("celery.app.trace").setLevel(logging.ERROR)
    wiring = wire(settings.load())
    if options.lifeline:
        threading.Thread(target=_end_with_parent, name="lifeline", daemon=True).start()
    if options.control:
        return _run_control(wiring, options)
    return _run_providers(wiring, options)


def _run_providers(wiring: Wiring, options: argparse.Namespace) -> int:
    names = [name for name in options.providers.split(",") if name] or list(wiring.routes.providers)
    slots = options.slots or wiring.settings.worker_slots
    queues = [celery_app.provider_queue(name) for name in names]
    name = options.name or (names[0] if len(names) == 1 else "providers")
    app = _app(wiring, queues)
    engine = Engine(
        settings=wiring.settings,
        database=wiring.database,
        catalog=wiring.catalog,
        blobs=wiring.blobs,
        redis_url=wiring.settings.redis_url or "",
    )
    engine.start(f"{name}@{socket.gethostname()}", queues, slots)

    @app.task(name=celery_app.SLICE_TASK, ignore_result=True)  # type: ignore[untyped-decorator]
    def run_slice(slice: int, epoch: int, probe: str | None = None) -> None:
        """Execute one slice. Whatever happens, its lease says the truth."""
        try:
            engine.execute(slice, epoch, probe)
        except DatabaseAway as error:
            log.warning("slice %d was not taken: %s", slice, error)

    def drain(**_: Any) -> None:
        engine.drain()

    worker_shutting_down.connect(drain)
    _serve(app, name, slots, queues)
    engine.drain()
    engine.close()
    wiring.database.close()
    return 0


def _run_control(wiring: Wiring, options: argparse.Namespace) -> int:
    slots = options.slots or CONTROL_SLOTS
    queues = [celery_app.CONTROL_QUEUE]
    app = _app(wiring, queues)
    process = owner.myself()
    name = options.name or "control"
    wiring.database.write(
        lambda session: processes.register(session, process, f"{name}@{socket.gethostname()}", queues, slots)
    )
    leader = Leader(
        database=wiring.database,
        catalog=wiring.catalog,
        doorbell=CeleryDoorbell(app),
        blobs=wiring.blobs,
        process=process,
        settings=wiring.settings,
    )
    intake = Intake(
        database=wiring.database,
        blobs=wiring.blobs,
        catalog=wiring.catalog,
        openai_limits=wiring.config.limits == "openai",
    )

    @app.task(name=celery_app.INTAKE_TASK, ignore_result=True)  # type: ignore[untyped-decorator]
    def take_in(batch: int) -> None:
        """Read one input file. If it cannot end, SQL rings again."""
        try:
            intake.take_in(batch)
        except DatabaseAway as error:
            log.warning("the intake of batch %d was interrupted: %s", batch, error)

    leader.start()
    _serve(app, name, slots, queues)
    leader.stop()
    try:
        wiring.database.write(lambda session: processes.leave(session, process))
    except DatabaseAway:
        log.warning("could not sign off")
    wiring.database.close()
    return 0


def _app(wiring: Wiring, queues: Sequence[str]) -> Celery:
    app = celery_app.make_app(wiring.settings)
    app.conf.task_queues = [celery_app.queue(name) for name in queues]
    return app


def _serve(app: Celery, name: str, slots: int, queues: Sequence[str]) -> None:
    worker = app.Worker(
        hostname=f"{name}@{socket.gethostname()}",
        pool="threads",
        concurrency=slots,
        queues=list(queues),
        loglevel="WARNING",
        task_events=True,
        without_mingle=True,
        without_gossip=True,
        quiet=True,
    )
    worker.start()


def _end_with_parent() -> None:
    """The parent holds the other end of our standard input; when it dies, however it dies, we end in order."""
    while os.read(sys.stdin.fileno(), 1024):
        continue
    os.kill(os.getpid(), signal.SIGTERM)
