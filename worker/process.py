"""A worker process: a Celery worker on threads, beside the engine (provider queues) or beside the control loops."""

import argparse
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence

from celery import Celery

from worker import TITLE, celery_app, garbage, settings
from worker.wiring import Wiring, wire

log = logging.getLogger("gristmill.worker")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM, or until standard input ends if ``--lifeline`` says that the parent holds it."""
    options = _options(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)
    logging.getLogger("celery.worker.strategy").setLevel(logging.WARNING)
    logging.getLogger("celery.app.trace").setLevel(logging.ERROR)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    wiring = wire(settings.load())
    if options.lifeline:
        threading.Thread(target=_end_with_parent, name="lifeline", daemon=True).start()
    # Each kind imports only what it needs: imports are most of what a start costs.
    if options.control:
        from worker.control.process import run_control

        run_control(wiring, name=options.name or "control", slots=options.slots)
    else:
        from worker.engine.process import run_providers

        providers = [name for name in options.providers.split(",") if name]
        run_providers(wiring, name=options.name, providers=providers, slots=options.slots)
    wiring.database.close()
    return 0


def make_app(wiring: Wiring, queues: Sequence[str]) -> Celery:
    """The process's Celery app, consuming these queues."""
    app = celery_app.make_app(wiring.settings)
    app.conf.task_queues = [celery_app.queue(name) for name in queues]
    return app


def full_name(name: str) -> str:
    """How Flower shows the worker."""
    return f"{name}@{socket.gethostname()}"


def serve(app: Celery, name: str, slots: int, queues: Sequence[str]) -> None:
    """Take messages until the warm shutdown has ended."""
    worker = app.Worker(
        hostname=full_name(name),
        pool="threads",
        concurrency=slots,
        queues=list(queues),
        loglevel="WARNING",
        task_events=True,
        without_mingle=True,
        without_gossip=True,
        quiet=True,
    )
    garbage.collect_rarely()
    worker.start()


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=TITLE)
    parser.add_argument("title", nargs="?", help="shown in process lists")
    parser.add_argument("--control", action="store_true", help="serve the control queue instead of providers")
    parser.add_argument("--providers", default="", help="comma-separated; all that are known if left out")
    parser.add_argument("--name", default="", help="shown in Flower before the host's name")
    parser.add_argument("--slots", type=int, default=0, help="slices at work at once")
    parser.add_argument("--lifeline", action="store_true", help="end when standard input ends")
    return parser.parse_args(arguments)


def _end_with_parent() -> None:
    """The parent holds the other end of our standard input; when it dies, however it dies, we end in order."""
    while os.read(sys.stdin.fileno(), 1024):
        continue
    os.kill(os.getpid(), signal.SIGTERM)
