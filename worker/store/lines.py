"""The lines of a batch one by one, with what was tried for each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlmodel import Session

from worker import tables
from worker.states import JobState
from worker.tables import ATTEMPT, JOB, SLICE

ATTEMPTS_SHOWN = 20
"""Of each line, the newest; one that waits for a quota may have thousands."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """``attempts`` are the newest ones of all generations, oldest first; ``tried`` is the number of all."""

    job: Any
    attempts: Sequence[Any]
    tried: int


def page(session: Session, batch: int, *, state: JobState | None, after: int, limit: int) -> list[Line]:
    """Lines of that state behind the line ``after``, in input order."""
    wanted = (JOB.c.id, JOB.c.custom_id, JOB.c.endpoint, JOB.c.state, JOB.c.generation, JOB.c.error_code)
    statement = (
        select(*wanted, SLICE.c.route)
        .outerjoin(SLICE, SLICE.c.id == JOB.c.slice)
        .where(JOB.c.id > tables.job_id(batch, after), JOB.c.id < tables.job_id(batch + 1, 0))
    )
    if state is not None:
        statement = statement.where(JOB.c.state == int(state))
    jobs = session.connection().execute(statement.order_by(JOB.c.id).limit(limit)).all()
    tries = _attempts(session, [job.id for job in jobs])
    return [
        Line(job=job, attempts=found, tried=found[0].tried if found else 0)
        for job in jobs
        for found in (tries.get(job.id, ()),)
    ]


def _attempts(session: Session, jobs: Sequence[int]) -> dict[int, list[Any]]:
    ranked = (
        select(
            *ATTEMPT.c,
            func.row_number().over(partition_by=ATTEMPT.c.job, order_by=ATTEMPT.c.id.desc()).label("rank"),
            func.count().over(partition_by=ATTEMPT.c.job).label("tried"),
        )
        .where(ATTEMPT.c.job.in_(jobs))
        .subquery()
    )
    statement = select(ranked).where(ranked.c.rank <= ATTEMPTS_SHOWN).order_by(ranked.c.job, ranked.c.id)
    found: dict[int, list[Any]] = {}
    for attempt in session.connection().execute(statement):
        found.setdefault(attempt.job, []).append(attempt)
    return found
