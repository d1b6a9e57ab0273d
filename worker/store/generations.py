"""A new generation of a batch at rest: lines that did not succeed run again, and the old files keep their bytes.

GenerationError
 ├ NotAtRest
 ├ NothingFailed
 ├ InputErased
 └ OutputsExpired
"""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from sqlalchemy import func, insert, select, update
from sqlmodel import Session

from worker import clock, states, tables
from worker.database import Database
from worker.states import BatchStatus, JobState
from worker.store import batches, files, listing, slices
from worker.tables import BATCH, JOB, RESULT, SLICE, TALLY, Batch

MOST_JOBS = 500
"""Lines reset in one transaction."""

UNSUCCESSFUL = (int(JobState.FAILED), int(JobState.EXPIRED), int(JobState.CANCELLED))


class GenerationError(Exception):
    """The failed lines cannot run again."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


class NotAtRest(GenerationError):
    """Failed lines can run again when the batch has ended."""


class NothingFailed(GenerationError):
    """No line of the batch can run again: none was sent and failed."""


class InputErased(GenerationError):
    """The input file was deleted: its lines cannot run again."""


class OutputsExpired(GenerationError):
    """The batch's output files have expired: a new generation would not have the answers that succeeded."""


def retry(database: Database, owner: str, id: str, slice_jobs: Callable[[str], int]) -> Batch | None:
    """Reset what did not succeed, in short transactions; the batch is paused until it is resumed.

    A crash in between loses nothing: what was not reset yet still has its error, and can be retried at the next rest.
    ``slice_jobs`` says how many lines of a route make a slice.
    """
    batch, after = database.write(lambda session: _open(session, owner, id, slice_jobs))
    while batch is not None and after is not None:
        after = database.write(partial(_reset, batch=batch, after=after, slice_jobs=slice_jobs))
    return batch


def _open(session: Session, owner: str, id: str, slice_jobs: Callable[[str], int]) -> tuple[Batch | None, int | None]:
    """The next generation: ``in_progress``, paused, and with its first lines open, so that nobody can end it yet."""
    batch = batches.lock(session, owner, id)
    if batch is None or batch.number is None:
        return None, None
    if batch.status not in states.AT_REST:
        raise NotAtRest
    if BatchStatus.IN_PROGRESS not in states.BATCH_MOVES[BatchStatus(batch.status)]:
        raise NothingFailed
    if session.connection().execute(_unsuccessful(batch.number, JOB.c.id).limit(1)).first() is None:
        raise NothingFailed
    if files.claim(session, owner, batch.input_file_id) is None:
        raise InputErased
    now = float(session.connection().execute(select(clock.now())).scalar_one())
    if batch.output_expires_after and (listing.ended_at(batch) or now) + batch.output_expires_after <= now:
        raise OutputsExpired
    batch.status = BatchStatus.IN_PROGRESS
    batch.generation += 1
    batch.finalizing_at = batch.completed_at = batch.expired_at = batch.cancelling_at = batch.cancelled_at = None
    batch.stop = batch.stop_at = batch.capped_at = batch.blocked_since = None
    batch.expires_at = None if batch.window_seconds is None else now + batch.window_seconds
    batch.paused_at = batch.due_at = now
    batch.due_tries = 0
    session.flush()
    return batch, _reset(session, batch, tables.job_id(batch.number, 0), slice_jobs)


def _reset(session: Session, batch: Batch, after: int, slice_jobs: Callable[[str], int]) -> int | None:
    """Make the next unsuccessful lines pending again; the last of them, or None when all are."""
    connection = session.connection()
    number, generation = batch.number, batch.generation
    assert number is not None
    present = connection.execute(select(BATCH).where(BATCH.c.number == number).with_for_update()).one()
    if (present.generation, present.status, present.stop) != (generation, BatchStatus.IN_PROGRESS, None):
        return None
    wanted = (JOB.c.id, JOB.c.slice, JOB.c.input_tokens, JOB.c.output_tokens, SLICE.c.route)
    jobs = connection.execute(
        _unsuccessful(number, *wanted)
        .join(SLICE, SLICE.c.id == JOB.c.slice)
        .where(JOB.c.id > after, JOB.c.generation < generation)
        .order_by(JOB.c.id)
        .limit(MOST_JOBS)
    ).all()
    if not jobs:
        return None
    size = _supersede(session, [job.id for job in jobs], generation)
    for route in dict.fromkeys(job.route for job in jobs):
        _regroup(session, batch, route, [job for job in jobs if job.route == route], max(1, slice_jobs(route)))
    for route, count in Counter(job.route for job in jobs).items():
        connection.execute(
            update(TALLY)
            .where(TALLY.c.batch == number, TALLY.c.route == route)
            .values(failed=TALLY.c.failed - count, alike=-1, alike_code=None, paused_at=None)
        )
    connection.execute(
        update(BATCH)
        .where(BATCH.c.number == number)
        .values(
            failed=BATCH.c.failed - len(jobs),
            open=BATCH.c.open + len(jobs),
            error_bytes=BATCH.c.error_bytes - size,
        )
    )
    return int(jobs[-1].id)


def _supersede(session: Session, jobs: list[int], generation: int) -> int:
    """Take the jobs' error rows out of the new generation; returns their bytes."""
    standing = (RESULT.c.job.in_(jobs), RESULT.c.kind == "error", RESULT.c.superseded_in.is_(None))
    connection = session.connection()
    size = connection.execute(select(func.coalesce(func.sum(func.length(RESULT.c.line)), 0)).where(*standing))
    answer = int(size.scalar_one())
    connection.execute(update(RESULT).where(*standing).values(superseded_in=generation))
    return answer


def _regroup(session: Session, batch: Batch, route: str, jobs: Sequence[Any], most: int) -> None:
    connection = session.connection()
    for start in range(0, len(jobs), most):
        some = jobs[start : start + most]
        row = slices.fresh(
            owner=batch.owner,
            batch=batch.number,
            generation=batch.generation,
            route=route,
            first_line=tables.job_line(some[0].id),
            jobs=len(some),
            tokens=sum(job.input_tokens + job.output_tokens for job in some),
        )
        slice = connection.execute(insert(SLICE).values(row).returning(SLICE.c.id)).scalar_one()
        connection.execute(
            update(JOB)
            .where(JOB.c.id.in_([job.id for job in some]))
            .values(
                slice=slice,
                state=int(JobState.PENDING),
                generation=batch.generation,
                attempts=0,
                not_before=None,
                error_code=None,
                answered_by=None,
            )
        )


def _unsuccessful(number: int, *columns: Any) -> Any:
    """Lines that were refused at intake (slice 0) would be refused again."""
    first, last = tables.job_id(number, 0), tables.job_id(number + 1, 0) - 1
    return select(*columns).where(JOB.c.id.between(first, last), JOB.c.state.in_(UNSUCCESSFUL), JOB.c.slice != 0)
