"""Is the server alive, and can it work?"""

import logging

from fastapi import APIRouter, Response

from api import schemas
from api.deps import ServicesDep
from api.services import Services
from worker.database import DatabaseAway
from worker.store import processes
from worker.store.processes import LivingProcess

log = logging.getLogger("gristmill.api")

router = APIRouter(tags=["health"])


@router.get("/healthz")
def healthz() -> schemas.Health:
    """This process answers."""
    return schemas.Health()


@router.get("/readyz", responses={503: {"model": schemas.Readiness}})
def readyz(services: ServicesDep, response: Response) -> schemas.Readiness:
    """Database, broker and workers are there: what is submitted now begins now."""
    workers = _workers(services)
    broker = services.broker_answers()
    missing = [
        *(["the database does not answer"] if workers is None else []),
        *([] if broker else ["the broker does not answer"]),
        *(_unserved(workers) if workers is not None else []),
    ]
    response.status_code = 503 if missing else 200
    return schemas.Readiness(
        status="not_ready" if missing else "ready",
        database=workers is not None,
        broker=broker,
        workers=len(workers or ()),
        missing=missing,
    )


def _workers(services: Services) -> list[LivingProcess] | None:
    try:
        with services.database.read() as session:
            return processes.living(session, services.lease_seconds)
    except DatabaseAway:
        return None


def _unserved(workers: list[LivingProcess]) -> list[str]:
    queues = {queue for worker in workers for queue in worker.queues}
    return [
        *([] if "control" in queues else ["no control worker was seen"]),
        *([] if any(queue.startswith("provider.") for queue in queues) else ["no provider worker was seen"]),
    ]
