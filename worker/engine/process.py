"""The worker process of provider queues: every task is one slice, executed by the engine beside Celery."""

import logging
from typing import Any

from celery.signals import worker_shutting_down

from worker import celery_app, process
from worker.database import DatabaseAway
from worker.engine.engine import Engine
from worker.wiring import Wiring

log = logging.getLogger("gristmill.worker")


def run_providers(wiring: Wiring, *, name: str, providers: list[str], slots: int) -> None:
    """Serve the queues of these providers, of all that are known if none is named, until SIGTERM."""
    names = providers or list(wiring.routes.providers)
    name = name or (names[0] if len(names) == 1 else "providers")
    slots = slots or wiring.settings.worker_slots
    queues = [celery_app.provider_queue(one) for one in names]
    app = process.make_app(wiring, queues)
    engine = Engine(
        settings=wiring.settings,
        database=wiring.database,
        catalog=wiring.catalog,
        keys=wiring.keys,
        blobs=wiring.blobs,
        redis_url=wiring.settings.redis_url or "",
    )
    engine.start(process.full_name(name), queues, slots)

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
    process.serve(app, name, slots, queues)
    engine.drain()
    engine.close()
