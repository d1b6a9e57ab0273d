"""The control process: the loops of the leader, and intake as Celery tasks."""

import logging

from worker import celery_app, owner, process
from worker.control.leader import Leader
from worker.database import DatabaseAway
from worker.doorbell import CeleryDoorbell
from worker.intake.intake import Intake
from worker.store import processes
from worker.wiring import Wiring

log = logging.getLogger("gristmill.worker")

SLOTS = 4
"""Input files read at once."""


def run_control(wiring: Wiring, *, name: str, slots: int) -> None:
    """Lead, or stand by, until SIGTERM."""
    me, queues, slots = owner.myself(), [celery_app.CONTROL_QUEUE], slots or SLOTS
    app = process.make_app(wiring, queues)
    leader = Leader(
        database=wiring.database,
        catalog=wiring.catalog,
        keys=wiring.keys,
        doorbell=CeleryDoorbell(app),
        blobs=wiring.blobs,
        process=me,
        settings=wiring.settings,
        retention=wiring.config.retention.policy,
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

    wiring.database.write(lambda session: processes.register(session, me, process.full_name(name), queues, slots))
    wiring.keys.look()
    leader.start()
    process.serve(app, name, slots, queues)
    leader.stop()
    try:
        wiring.database.write(lambda session: processes.leave(session, me))
    except DatabaseAway:
        log.warning("could not sign off")
