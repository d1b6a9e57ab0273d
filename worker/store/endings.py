"""How lines and batches end without an answer, and how a batch comes to rest."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import select, update
from sqlmodel import Session
from sqlmodel import select as select_model

from worker import clock, ids, result_line, tables
from worker.database import executemany
from worker.states import AT_REST, BatchStatus, JobState, Kind, SliceState, Stop
from worker.store.slices import lock_batches
from worker.tables import BATCH, JOB, SLICE, TALLY

MOST_JOBS = 1_000
"""Rows of one transaction."""
CRASHES_ALONE = 3

STOPPED = {
    Stop.CANCEL: (JobState.CANCELLED, "batch_cancelled", "This request was cancelled before it could be executed."),
    Stop.EXPIRE: (
        JobState.EXPIRED,
        "batch_expired",
        "This request could not be executed before the completion window expired.",
    ),
}


def stop_lines(session: Session, number: int) -> int:
    """Give some unleased pending lines of a stopping batch their rows; how many got one."""
    lock_batches(session, [number])
    batch = _batch(session, number)
    if batch.stop is None or batch.status in AT_REST:
        return 0
    state, code, message = STOPPED[Stop(batch.stop)]
    jobs = _unleased(session, number)
    end_jobs(
        session,
        batch,
        jobs,
        state,
        code,
        lambda job: result_line.not_executed(batch.kind, job.id, job.custom_id, code, message),
    )
    return len(jobs)


def end_jobs(
    session: Session,
    batch: tables.Batch,
    jobs: Sequence[Any],
    state: JobState,
    code: str,
    line: Callable[[Any], bytes],
) -> None:
    """Write error rows for pending jobs (id, custom_id, generation, slice, route) under the batch's lock."""
    connection = session.connection()
    lines = [line(job) for job in jobs]
    executemany(
        connection,
        "INSERT INTO result (job, generation, owner, batch, seq, kind, line) VALUES (?,?,?,?,?,?,?)",
        [
            (job.id, job.generation, batch.owner, batch.number, batch.seq + place, "error", text)
            for place, (job, text) in enumerate(zip(jobs, lines, strict=True), start=1)
        ],
    )
    executemany(
        connection,
        "UPDATE job SET state = ?, error_code = ? WHERE id = ?",
        [(int(state), code, job.id) for job in jobs],
    )
    for slice, count in sorted(Counter(job.slice for job in jobs).items()):
        connection.execute(update(SLICE).where(SLICE.c.id == slice).values(open=SLICE.c.open - count))
        connection.execute(
            update(SLICE).where(SLICE.c.id == slice, SLICE.c.open == 0).values(state=SliceState.DONE, not_before=None)
        )
    for route, count in Counter(job.route for job in jobs).items():
        connection.execute(
            update(TALLY)
            .where(TALLY.c.batch == batch.number, TALLY.c.route == route)
            .values(failed=TALLY.c.failed + count)
        )
    batch.seq += len(jobs)
    batch.failed += len(jobs)
    batch.open -= len(jobs)
    batch.error_bytes += sum(map(len, lines))
    if batch.open == 0:
        batch.due_at = float(connection.execute(select(clock.now())).scalar_one())
    session.add(batch)
    session.flush()


def expire(session: Session, number: int) -> bool:
    """Stop a batch whose window has passed, unless it is blocked: that time does not count."""
    changed = session.connection().execute(
        update(BATCH)
        .where(
            BATCH.c.number == number,
            BATCH.c.status == BatchStatus.IN_PROGRESS,
            BATCH.c.stop.is_(None),
            BATCH.c.blocked_since.is_(None),
            BATCH.c.expires_at <= clock.now(),
        )
        .values(stop=Stop.EXPIRE, stop_at=clock.now(), due_at=clock.now())
    )
    return changed.rowcount == 1


def finalize(session: Session, number: int) -> BatchStatus | None:
    """Bring a batch without open lines to rest, with its event; None if it is not ready for that."""
    lock_batches(session, [number])
    batch = _batch(session, number)
    if batch.open or batch.status not in (BatchStatus.IN_PROGRESS, BatchStatus.FINALIZING, BatchStatus.CANCELLING):
        return None
    now = float(session.connection().execute(select(clock.now())).scalar_one())
    if batch.status == BatchStatus.CANCELLING:
        batch.status, batch.cancelled_at = BatchStatus.CANCELLED, now
    elif batch.stop == Stop.EXPIRE and _any_expired(session, number):
        batch.status, batch.expired_at = BatchStatus.EXPIRED, now
    else:
        batch.status, batch.finalizing_at, batch.completed_at = BatchStatus.COMPLETED, now, now
    batch.due_at, batch.due_tries, batch.blocked_since = None, 0, None
    if batch.kind != Kind.HELD:
        note_event(session, batch, now)
    return BatchStatus(batch.status)


def note_event(session: Session, batch: tables.Batch, now: float) -> None:
    """What the owner is to be told, in the same transaction as the fact."""
    assert batch.number is not None
    session.add(
        tables.Event(
            id=ids.new_event(),
            owner=batch.owner,
            batch=batch.number,
            generation=batch.generation,
            type=f"batch.{batch.status}",
            created_at=now,
        )
    )


def crash(session: Session, batch: tables.Batch, slice: int) -> None:
    """The single job of a slice has crashed its worker three times alone: it fails."""
    message = f"The worker process died {CRASHES_ALONE} times while it ran this request alone."
    end_jobs(
        session,
        batch,
        _pending(session, slice),
        JobState.FAILED,
        "worker_crashed",
        lambda job: result_line.broken(batch.kind, job.id, job.custom_id, "worker_crashed", message),
    )


def _batch(session: Session, number: int) -> tables.Batch:
    return session.exec(
        select_model(tables.Batch).where(tables.Batch.number == number).execution_options(populate_existing=True)
    ).one()


def _unleased(session: Session, number: int) -> Sequence[Any]:
    statement = (
        select(JOB.c.id, JOB.c.custom_id, JOB.c.generation, JOB.c.slice, SLICE.c.route)
        .join(SLICE, SLICE.c.id == JOB.c.slice)
        .where(
            SLICE.c.batch == number,
            SLICE.c.state.in_((SliceState.READY, SliceState.PUBLISHED)),
            JOB.c.state == JobState.PENDING,
        )
        .limit(MOST_JOBS)
    )
    if session.connection().dialect.name == "postgresql":
        statement = statement.with_for_update()
    return session.connection().execute(statement).all()


def _pending(session: Session, slice: int) -> Sequence[Any]:
    statement = (
        select(JOB.c.id, JOB.c.custom_id, JOB.c.generation, JOB.c.slice, SLICE.c.route)
        .join(SLICE, SLICE.c.id == JOB.c.slice)
        .where(SLICE.c.id == slice, JOB.c.state == JobState.PENDING)
    )
    return session.connection().execute(statement).all()


def _any_expired(session: Session, number: int) -> bool:
    first, last = tables.job_id(number, 0), tables.job_id(number + 1, 0) - 1
    statement = select(JOB.c.id).where(JOB.c.id.between(first, last), JOB.c.state == JobState.EXPIRED).limit(1)
    return session.connection().execute(statement).first() is not None
