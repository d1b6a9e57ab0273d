"""Intake's rows: jobs and slices by the thousand, with the cursor in the same transaction, so that it may restart."""

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update
from sqlmodel import Session
from sqlmodel import select as select_model

from worker import clock, result_line, tables
from worker.database import executemany
from worker.states import BatchStatus, JobState
from worker.store import endings, slices
from worker.store.slices import lock_batches
from worker.tables import BATCH, JOB, RESULT, SLICE, TALLY

DELETE_JOBS = 5_000
JOB_COLUMNS = (
    "id, owner, slice, custom_id, endpoint, lane, state, generation, "
    '"offset", length, model_offset, model_length, input_tokens, output_tokens, attempts'
)


@dataclass(frozen=True, kw_only=True, slots=True)
class NewJob:
    """A good line, as it becomes a row."""

    line: int
    route: str
    custom_id: str | None
    endpoint: str
    offset: int
    length: int
    model_offset: int
    model_length: int
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class BadLine:
    """What is wrong with a line; ``output`` is its row for the error file if the batch runs without it."""

    line: int
    custom_id: str | None
    code: str
    message: str
    param: str | None


@dataclass(kw_only=True, slots=True)
class Chunk:
    """Neighbouring lines of the input, read from ``offset`` and ``line`` (both exclusive) on."""

    line: int
    offset: int
    next_line: int
    next_offset: int
    slices: list[tuple[str, list[NewJob]]] = field(default_factory=list)
    bad: list[BadLine] = field(default_factory=list)
    prices: dict[str, tuple[int | None, int | None]] = field(default_factory=dict)


class Overtaken(Exception):
    """Another intake of the same batch has moved the cursor, or the batch is no longer being validated."""


def append(session: Session, batch: tables.Batch, chunk: Chunk) -> None:
    """Insert a chunk and move the cursor past it. Raises Overtaken, with nothing written."""
    connection = session.connection()
    number = _number(batch)
    _advance(connection, number, chunk, batch.invalid_lines == "report")
    ids = _insert_slices(connection, batch, chunk)
    rows = [
        job_values(tables.job_id(number, job.line), batch.owner, slice, batch.generation, job)
        for slice, (_, jobs) in zip(ids, chunk.slices, strict=True)
        for job in jobs
    ]
    _bulk(connection, rows)
    _add_tallies(connection, batch, chunk)
    session.add_all([_line_error(batch, bad) for bad in chunk.bad])
    if batch.invalid_lines == "report":
        _report(connection, batch, chunk)


def job_values(id: int, owner: str, slice: int, generation: int, job: NewJob) -> tuple[Any, ...]:
    """What stands in JOB_COLUMNS of a line that waits."""
    return (
        id,
        owner,
        slice,
        job.custom_id,
        job.endpoint,
        "live",
        JobState.PENDING,
        generation,
        job.offset,
        job.length,
        job.model_offset,
        job.model_length,
        job.input_tokens,
        job.output_tokens,
        0,
    )


def note_file_problem(session: Session, batch: tables.Batch, problem: BadLine) -> None:
    """An error of the whole file (line 0): the batch will fail, whatever its lines are."""
    if session.get(tables.LineError, (_number(batch), problem.line)) is None:
        session.add(_line_error(batch, problem))


def conclude(session: Session, number: int) -> bool:
    """Every line was read: let the batch begin or fail. True if it failed; a batch stopped meanwhile stays as it is."""
    lock_batches(session, [number])
    batch = session.exec(select_model(tables.Batch).where(tables.Batch.number == number)).one()
    if batch.status != BatchStatus.VALIDATING:
        return batch.status == BatchStatus.FAILED
    now = session.connection().execute(select(clock.now())).scalar_one()
    whole_file = session.get(tables.LineError, (number, 0)) is not None
    batch.due_at, batch.due_tries = now, 0
    if whole_file or (batch.invalid and batch.invalid_lines == "fail"):
        batch.status, batch.failed_at = BatchStatus.FAILED, now
        batch.total = batch.completed = batch.failed = batch.open = 0
        batch.error_bytes = 0
        endings.note_event(session, batch, now)
        return True
    models = session.connection().execute(select(TALLY.c.route).where(TALLY.c.batch == number)).scalars().all()
    if batch.stop is None:
        batch.status, batch.in_progress_at = BatchStatus.IN_PROGRESS, now
    else:
        batch.status = BatchStatus.CANCELLING
    batch.model = models[0] if len(models) == 1 else None
    return False


def clear(session: Session, number: int) -> bool:
    """Remove some of the rows of a failed batch's good lines. True when none is left."""
    connection = session.connection()
    some = select(JOB.c.id).where(
        JOB.c.id.between(tables.job_id(number, 0), tables.job_id(number + 1, 0) - 1)
    ).limit(DELETE_JOBS)  # fmt: skip
    deleted = connection.execute(delete(JOB).where(JOB.c.id.in_(some))).rowcount
    if deleted == DELETE_JOBS:
        return False
    connection.execute(delete(tables.Result).where(RESULT.c.batch == number))
    connection.execute(delete(SLICE).where(SLICE.c.batch == number))
    connection.execute(delete(TALLY).where(TALLY.c.batch == number))
    return True


def _line_error(batch: tables.Batch, bad: BadLine) -> tables.LineError:
    return tables.LineError(
        batch=_number(batch),
        line=bad.line,
        owner=batch.owner,
        code=bad.code,
        message=bad.message,
        param=bad.param,
    )


def _report(connection: Connection, batch: tables.Batch, chunk: Chunk) -> None:
    """Bad lines get their error rows at once, and the good ones will run."""
    number = _number(batch)
    jobs = [(tables.job_id(number, bad.line), bad) for bad in chunk.bad]
    lines = [result_line.refused(batch.kind, job, bad.custom_id, bad.code, bad.message, bad.param) for job, bad in jobs]
    seq = connection.execute(select(BATCH.c.seq).where(BATCH.c.number == number)).scalar_one()
    executemany(
        connection,
        f"INSERT INTO job ({JOB_COLUMNS}, error_code) VALUES ({','.join('?' * 16)})",
        [
            (job, batch.owner, 0, bad.custom_id, "", "live", JobState.FAILED, batch.generation, *[0] * 7, bad.code)
            for job, bad in jobs
        ],
    )
    executemany(
        connection,
        "INSERT INTO result (job, generation, owner, batch, seq, kind, line) VALUES (?,?,?,?,?,?,?)",
        [
            (job, batch.generation, batch.owner, number, seq + place, "error", line)
            for place, ((job, _), line) in enumerate(zip(jobs, lines, strict=True), start=1)
        ],
    )
    connection.execute(
        update(BATCH)
        .where(BATCH.c.number == number)
        .values(
            seq=BATCH.c.seq + len(jobs),
            failed=BATCH.c.failed + len(jobs),
            error_bytes=BATCH.c.error_bytes + sum(map(len, lines)),
        )
    )


def _number(batch: tables.Batch) -> int:
    assert batch.number is not None
    return batch.number


def _advance(connection: Connection, number: int, chunk: Chunk, report: bool) -> None:
    """``total`` counts the lines that have a row of their own: bad ones only if they are reported."""
    jobs = sum(len(jobs) for _, jobs in chunk.slices)
    moved = connection.execute(
        update(BATCH)
        .where(
            BATCH.c.number == number,
            BATCH.c.status == BatchStatus.VALIDATING,
            BATCH.c.intake_line == chunk.line,
            BATCH.c.intake_offset == chunk.offset,
        )
        .values(
            intake_line=chunk.next_line,
            intake_offset=chunk.next_offset,
            total=BATCH.c.total + jobs + (len(chunk.bad) if report else 0),
            open=BATCH.c.open + jobs,
            invalid=BATCH.c.invalid + len(chunk.bad),
        )
    )
    if moved.rowcount != 1:
        raise Overtaken


def _insert_slices(connection: Connection, batch: tables.Batch, chunk: Chunk) -> list[int]:
    rows = [
        slices.fresh(
            owner=batch.owner,
            batch=batch.number,
            generation=batch.generation,
            route=route,
            first_line=jobs[0].line,
            jobs=len(jobs),
            tokens=sum(job.input_tokens + job.output_tokens for job in jobs),
        )
        for route, jobs in chunk.slices
    ]
    if not rows:
        return []
    statement = insert(SLICE).returning(SLICE.c.id, sort_by_parameter_order=True)
    return list(connection.execute(statement, rows).scalars().all())


def _bulk(connection: Connection, rows: list[tuple[Any, ...]]) -> None:
    if connection.dialect.name == "postgresql":
        cursor: Any = connection.connection.cursor()
        with cursor.copy(f"COPY job ({JOB_COLUMNS}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
    else:
        executemany(connection, f"INSERT INTO job ({JOB_COLUMNS}) VALUES ({','.join('?' * 15)})", rows)


def _add_tallies(connection: Connection, batch: tables.Batch, chunk: Chunk) -> None:
    for route in dict.fromkeys(route for route, _ in chunk.slices):
        jobs = [job for name, some in chunk.slices if name == route for job in some]
        sums = {
            "lines": len(jobs),
            "estimated_input_tokens": sum(job.input_tokens for job in jobs),
            "estimated_output_tokens": sum(job.output_tokens for job in jobs),
        }
        changed = connection.execute(
            update(TALLY)
            .where(TALLY.c.batch == batch.number, TALLY.c.route == route)
            .values({name: TALLY.c[name] + value for name, value in sums.items()})
        )
        if changed.rowcount == 0:
            row = tables.Tally(batch=_number(batch), route=route, owner=batch.owner)
            row.input_price, row.output_price = chunk.prices[route]
            connection.execute(insert(TALLY).values({**row.model_dump(), **sums}))


def analyze(session: Session) -> None:
    """Give Postgres statistics of rows that it has not seen yet: claims cost ten times more without."""
    if session.connection().dialect.name == "postgresql":
        session.connection().exec_driver_sql("ANALYZE job, slice")
