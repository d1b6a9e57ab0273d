"""How the requests of Message Batches ended."""

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlmodel import Session

from worker import tables
from worker.states import JobState
from worker.tables import JOB, Batch

REQUESTS = "requests"
"""The key in a message batch's metadata (its clients have none) that tells how many it holds before intake knows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Endings:
    succeeded: int
    errored: int
    canceled: int
    expired: int


def endings(session: Session, batch: Batch) -> Endings:
    """Of a batch at rest. Only one that was stopped has lines that are neither answer nor error: those are counted."""
    canceled = expired = 0
    if batch.stop is not None and batch.failed and batch.number is not None:
        canceled = _count(session, batch.number, JobState.CANCELLED)
        expired = _count(session, batch.number, JobState.EXPIRED)
    errored = batch.failed - canceled - expired
    return Endings(succeeded=batch.completed, errored=errored, canceled=canceled, expired=expired)


def size(batch: Batch) -> int:
    """How many requests the batch holds."""
    return int(batch.metadata_.get(REQUESTS, batch.total))


def _count(session: Session, number: int, state: JobState) -> int:
    mine = JOB.c.id.between(tables.job_id(number, 0), tables.job_id(number + 1, 0) - 1)
    statement = select(func.count()).where(mine, JOB.c.state == int(state))
    return int(session.connection().execute(statement).scalar_one())
