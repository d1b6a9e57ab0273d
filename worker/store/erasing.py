"""Erases the rows of deleted batches in portions of a few milliseconds, so that running batches do not notice.

Each portion is a transaction under the batch's lock that begins by looking at what is left: it may be killed anywhere,
and two erasers at once do no harm. Attempts go first, summed up in the same transaction.
"""

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import and_, delete, func, or_, select, update
from sqlmodel import Session

from worker import clock, tables
from worker.states import SliceState
from worker.store import usage_history
from worker.store.slices import lock_batches
from worker.tables import (
    ATTEMPT,
    BATCH,
    DELIVERY,
    DELIVERY_ATTEMPT,
    EVENT,
    FILE,
    JOB,
    LINE_ERROR,
    REQUEST_BODY,
    RESULT,
    SLICE,
    TALLY,
)

ROWS = 500
BYTES = 4 << 20
"""Of lines in one portion."""
EVENTS = 20
LEASED_SECONDS = 2.0
"""Calls that outlived their batch may still end: so long until it is looked at again."""
LATE_SECONDS = 86_400.0
"""The batch's own row stays so long, so that a late answer finds whose it was."""


def due(session: Session) -> int | None:
    """The deleted batch that has waited longest for an eraser."""
    statement = select(BATCH.c.number).where(BATCH.c.due_at <= clock.now(), BATCH.c.deleted_at.is_not(None))
    return session.connection().execute(statement.order_by(BATCH.c.due_at).limit(1)).scalar_one_or_none()


def erase_some(session: Session, number: int) -> bool:
    """One portion of a deleted batch. False when there is nothing more to do for now."""
    lock_batches(session, [number])
    batch = (
        session.connection()
        .execute(select(BATCH).where(BATCH.c.number == number, BATCH.c.deleted_at.is_not(None)))
        .one_or_none()
    )
    if batch is None:
        return False
    if _is_leased(session, number):
        _look_again(session, number, LEASED_SECONDS)
        return False
    if any(erase(session, batch) for erase in STEPS):
        return True
    _bury(session, batch)
    return False


def _attempts(session: Session, batch: Any) -> bool:
    connection = session.connection()
    key = (ATTEMPT.c.job, ATTEMPT.c.id)
    rows = connection.execute(select(ATTEMPT).where(_of(ATTEMPT.c.job, batch)).order_by(*key).limit(ROWS)).all()
    if rows:
        usage_history.add(session, batch, rows)
        last = rows[-1]
        up_to = or_(ATTEMPT.c.job < last.job, and_(ATTEMPT.c.job == last.job, ATTEMPT.c.id <= last.id))
        connection.execute(delete(ATTEMPT).where(ATTEMPT.c.job.between(rows[0].job, last.job), up_to))
    return bool(rows)


def _results(session: Session, batch: Any) -> bool:
    return erase_results(session, batch.number) > 0


def erase_results(session: Session, number: int) -> int:
    """Some of the answers of a batch; how many. The caller has locked it."""
    connection = session.connection()
    first, last = tables.job_id(number, 0), tables.job_id(number + 1, 0) - 1
    sizes = connection.execute(
        select(RESULT.c.job, func.length(RESULT.c.line).label("size"))
        .where(RESULT.c.job.between(first, last))
        .order_by(RESULT.c.job)
        .limit(ROWS)
    ).all()
    if not sizes:
        return 0
    upto = _within(sizes)
    return connection.execute(delete(RESULT).where(RESULT.c.job.between(sizes[0].job, upto))).rowcount


def _within(sizes: Sequence[Any]) -> int:
    """The last job whose lines still fit into a portion; at least one does."""
    total = 0
    for place, row in enumerate(sizes):
        total += row.size
        if total > BYTES and place:
            return int(sizes[place - 1].job)
    return int(sizes[-1].job)


def _jobs(session: Session, batch: Any) -> bool:
    return _some(session, JOB, JOB.c.id, _of(JOB.c.id, batch))


def _slices(session: Session, batch: Any) -> bool:
    return _some(session, SLICE, SLICE.c.id, SLICE.c.batch == batch.number)


def _line_errors(session: Session, batch: Any) -> bool:
    return _some(session, LINE_ERROR, LINE_ERROR.c.line, LINE_ERROR.c.batch == batch.number)


def _tallies(session: Session, batch: Any) -> bool:
    return _some(session, TALLY, TALLY.c.route, TALLY.c.batch == batch.number)


def _bodies(session: Session, batch: Any) -> bool:
    session.connection().execute(delete(REQUEST_BODY).where(REQUEST_BODY.c.batch == batch.number))
    return False


def _events(session: Session, batch: Any) -> bool:
    """What its owner was told, and how that went."""
    connection = session.connection()
    mine = select(EVENT.c.id).where(EVENT.c.batch == batch.number).limit(EVENTS)
    events = list(connection.execute(mine).scalars())
    deliveries = select(DELIVERY.c.id).where(DELIVERY.c.event.in_(events))
    if events:
        connection.execute(delete(DELIVERY_ATTEMPT).where(DELIVERY_ATTEMPT.c.delivery.in_(deliveries)))
        connection.execute(delete(DELIVERY).where(DELIVERY.c.event.in_(events)))
        connection.execute(delete(EVENT).where(EVENT.c.id.in_(events)))
    return bool(events)


def _hidden_files(session: Session, batch: Any) -> bool:
    """Rows that hide its output files: without the batch there is nothing to hide."""
    generations = range(1, batch.generation + 1)
    ids = [f"file-{batch.id.removeprefix('batch_')}{kind}{number}" for number in generations for kind in "oe"]
    session.connection().execute(delete(FILE).where(FILE.c.id.in_(ids)))
    return False


STEPS: tuple[Callable[[Session, Any], bool], ...] = (
    _attempts,
    _results,
    _jobs,
    _slices,
    _line_errors,
    _tallies,
    _bodies,
    _events,
    _hidden_files,
)


def _some(session: Session, table: Any, key: Any, mine: Any) -> bool:
    connection = session.connection()
    keys = list(connection.execute(select(key).where(mine).order_by(key).limit(ROWS)).scalars())
    if keys:
        connection.execute(delete(table).where(mine, key >= keys[0], key <= keys[-1]))
    return bool(keys)


def _bury(session: Session, batch: Any) -> None:
    """All is gone but the batch's own row. SQLite gives the greatest number again, so that one has to wait."""
    connection = session.connection()
    now = connection.execute(select(clock.now())).scalar_one()
    greatest = connection.execute(select(func.max(BATCH.c.number))).scalar_one()
    if batch.deleted_at <= now - LATE_SECONDS and batch.number < greatest:
        connection.execute(delete(BATCH).where(BATCH.c.number == batch.number))
        return
    said: dict[str, Any] = {"metadata": {}, "identity": None, "fingerprint": "", "input_file_id": ""}
    connection.execute(update(BATCH).where(BATCH.c.number == batch.number).values(said))
    _look_again(session, batch.number, LATE_SECONDS)


def _look_again(session: Session, number: int, seconds: float) -> None:
    connection = session.connection()
    connection.execute(update(BATCH).where(BATCH.c.number == number).values(due_at=clock.now() + seconds))


def _is_leased(session: Session, number: int) -> bool:
    mine = select(SLICE.c.id).where(SLICE.c.batch == number, SLICE.c.state == SliceState.LEASED).limit(1)
    return session.connection().execute(mine).first() is not None


def _of(job: Any, batch: Any) -> Any:
    return job.between(tables.job_id(batch.number, 0), tables.job_id(batch.number + 1, 0) - 1)
