"""The control process: the loops of the leader, intake as Celery tasks, and an engine for held jobs."""

import logging
from typing import Any

from celery.signals import worker_shutting_down

from worker import celery_app, owner, process
from worker.control.intakes import Intakes
from worker.control.leader import Leader
from worker.database import DatabaseAway
from worker.doorbell import CeleryDoorbell
from worker.engine.engine import Engine
from worker.intake.intake import Intake
from worker.wiring import Wiring

log = logging.getLogger("gristmill.worker")

SLOTS = 4
"""Input files read at once."""
HELD_SLOTS = 2
"""Threads that are left for messages of held jobs, each busy for one claim only."""


def run_control(wiring: Wiring, *, name: str, slots: int) -> None:
    """Lead, or stand by, until SIGTERM."""
    slots, queues = slots or SLOTS, [celery_app.CONTROL_QUEUE, celery_app.HELD_QUEUE]
    app = process.make_app(wiring, queues)
    engine = Engine(
        settings=wiring.settings,
        database=wiring.database,
        catalog=wiring.catalog,
        keys=wiring.keys,
        blobs=wiring.blobs,
        redis_url=wiring.settings.redis_url or "",
    )
    leader = Leader(
        database=wiring.database,
        catalog=wiring.catalog,
        keys=wiring.keys,
        doorbell=CeleryDoorbell(app),
        blobs=wiring.blobs,
        process=owner.myself(),
        settings=wiring.settings,
    )
    intake = Intake(
        database=wiring.database,
        blobs=wiring.blobs,
        catalog=wiring.catalog,
        openai_limits=wiring.config.limits == "openai",
    )
    intakes = Intakes(intake, slots)

    @app.task(name=celery_app.INTAKE_TASK, ignore_result=True)  # type: ignore[untyped-decorator]
    def take_in(batch: int) -> None:
        """Read one input file. If it cannot end, SQL rings again."""
        intakes.take_in(batch)

    @app.task(name=celery_app.HELD_TASK, ignore_result=True)  # type: ignore[untyped-decorator]
    def take_over(slices: list[list[int]], probe: str | None = None) -> None:
        """Claim held jobs and begin them; they outlive this task."""
        try:
            engine.take_over([(slice, epoch) for slice, epoch in slices], probe)
        except DatabaseAway as error:
            log.warning("held jobs were not taken: %s", error)

    def drain(**_: Any) -> None:
        engine.drain()

    engine.start(process.full_name(name), queues, slots)
    leader.start()
    worker_shutting_down.connect(drain)
    process.serve(app, name, slots + HELD_SLOTS, queues)
    engine.drain()
    leader.stop()
    engine.close()
