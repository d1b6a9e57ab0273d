"""Leases whose owner is gone: count what may be called again, take the slice back, isolate what kills workers."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import insert, select, update
from sqlmodel import Session
from sqlmodel import select as select_model

from worker import clock, tables
from worker.states import JobState, SliceState
from worker.store import endings, slices
from worker.store.slices import distrust_messages, lock_batches, put_back
from worker.tables import JOB, PROCESS, SLICE

CRASHES_TOGETHER = 2
"""So many crashes of a slice, and the jobs that were in flight at the last one leave it."""
SUSPECTS_TOGETHER = 10


def leased(session: Session) -> Sequence[Any]:
    """(id, epoch, batch, lease_owner, expired) of every leased slice."""
    statement = select(
        SLICE.c.id,
        SLICE.c.epoch,
        SLICE.c.batch,
        SLICE.c.lease_owner,
        (SLICE.c.lease_until < clock.now()).label("expired"),
    ).where(SLICE.c.state == SliceState.LEASED)
    return session.connection().execute(statement).all()


def take(session: Session, slice: int, epoch: int, *, crashed: bool) -> int | None:
    """Take a lease from its owner; how many calls may be repeated. None if the lease has moved on, or was renewed.

    ``crashed``: the owner is dead, not merely late. Only then do its started jobs come under suspicion.
    """
    number = session.connection().execute(select(SLICE.c.batch).where(SLICE.c.id == slice)).scalar_one_or_none()
    if number is None:  # it was given back since, its batch has ended, and was deleted
        return None
    lock_batches(session, [number])
    row = session.exec(select_model(tables.Slice).where(tables.Slice.id == slice).with_for_update()).first()
    if row is None or (row.epoch, row.state) != (epoch, SliceState.LEASED):
        return None
    if not crashed and (row.lease_until or 0) >= session.connection().execute(select(clock.now())).scalar_one():
        return None
    suspects = _started_pending(session, row)
    batch = session.exec(select_model(tables.Batch).where(tables.Batch.number == number)).one()
    batch.repeats_at_most += len(suspects)
    row.crashes += bool(crashed and suspects)
    session.flush()
    put_back(session, slice)
    if row.alone and row.crashes >= endings.CRASHES_ALONE:
        session.refresh(batch)
        endings.crash(session, batch, slice)
    elif not row.alone and row.crashes >= CRASHES_TOGETHER:
        _isolate(session, row, suspects)
    return len(suspects)


def forget_dead(session: Session, dead: Sequence[str]) -> None:
    """Note that these processes have ended."""
    session.connection().execute(
        update(PROCESS).where(PROCESS.c.id.in_(dead), PROCESS.c.stopped_at.is_(None)).values(stopped_at=clock.now())
    )
    distrust_messages(session)


def _started_pending(session: Session, row: tables.Slice) -> list[int]:
    started = [tables.job_id(row.batch, int(line)) for line in row.started.split(",") if line]
    statement = select(JOB.c.id).where(JOB.c.id.in_(started), JOB.c.state == JobState.PENDING).order_by(JOB.c.id)
    return list(session.connection().execute(statement).scalars())


def _isolate(session: Session, row: tables.Slice, suspects: list[int]) -> None:
    """First groups of ten, then one by one: an operator's kills cost little, a poison line is found all the same."""
    size = SUSPECTS_TOGETHER if len(suspects) > SUSPECTS_TOGETHER else 1
    for start in range(0, len(suspects), size):
        _move(session, row, suspects[start : start + size], alone=size == 1)
    connection = session.connection()
    rest = row.open - len(suspects)
    connection.execute(
        update(SLICE)
        .where(SLICE.c.id == row.id)
        .values(crashes=0, open=rest, **({"state": SliceState.DONE} if rest == 0 else {}))
    )
    if rest:
        put_back(session, int(row.id or 0))


def _move(session: Session, row: tables.Slice, jobs: list[int], *, alone: bool) -> None:
    connection = session.connection()
    values = {
        **slices.fresh(
            owner=row.owner,
            batch=row.batch,
            generation=row.generation,
            route=row.route,
            trail=row.trail,
            first_line=tables.job_line(jobs[0]),
            jobs=len(jobs),
            tokens=row.tokens * len(jobs) // max(1, row.jobs),
        ),
        "crashes": 0 if alone else CRASHES_TOGETHER - 1,
        "alone": alone,
    }
    new = connection.execute(insert(SLICE).values(values).returning(SLICE.c.id)).scalar_one()
    connection.execute(update(JOB).where(JOB.c.id.in_(jobs)).values(slice=new))
