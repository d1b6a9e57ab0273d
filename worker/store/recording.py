"""Record: the one transaction that stores what calls brought, and that says which further calls may begin.

Lock order: batch, slice, job. Everything is read under the batch's lock, decided in Python, and written back; counters
change only by the rows that really changed. Running it again after a lost commit changes nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, field, fields
from typing import Any, TypeVar

from sqlalchemy import Connection, select
from sqlmodel import Session

from providers.usage import Usage
from worker import clock, tables
from worker.database import executemany
from worker.states import AT_REST, BatchStatus, JobState, Outcome, SliceState

ALIKE_LIMIT = 20
"""So many first finished lines of one model that all fail with one code pause that model."""
NEVER_ALIKE = frozenset({"content_filter", "context_length_exceeded", "payload_too_large", "request_too_large"})
"""Codes that an evaluation may mean to provoke."""
UNKNOWN_COST = "unknown_cost"
"""Why a model pauses whose price is unknown, in a batch with a cap that does not allow that."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """Jobs of a leased slice whose calls are about to begin, each with its estimated cost in pico-USD."""

    slice: int
    epoch: int
    batch: int
    route: str
    jobs: tuple[int, ...]
    costs: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """One call's end. ``line`` and ``kind`` are set when it gives the job its result."""

    job: int
    attempt: int
    slice: int
    epoch: int
    batch: int
    route: str
    owner: str
    generation: int
    deployment: str
    seconds: float
    outcome: Outcome
    reserved: int = 0
    status_code: int | None = None
    error_code: str | None = None
    request_id: str | None = None
    model: str | None = None
    fingerprint: str | None = None
    ending: str | None = None
    usage: Usage | None = None
    cost: int | None = 0
    cost_source: str | None = None
    kind: str | None = None
    line: bytes = b""


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchView:
    """What a worker must know of a batch: no call may start when ``stop`` is set or it is ``held``."""

    stop: bool
    held: bool


@dataclass(frozen=True, slots=True)
class Granted:
    """The first ``count`` calls may begin. ``closed``: no other call of the slice will be granted in this lease."""

    count: int
    closed: bool


@dataclass(kw_only=True, slots=True)
class Recorded:
    """What each start was granted, in the order asked, and how the batches stand."""

    granted: list[Granted] = field(default_factory=list)
    batches: dict[int, BatchView] = field(default_factory=dict)


@dataclass(slots=True)
class _Batch:
    number: int
    status: str
    generation: int
    stop: str | None
    paused_at: float | None
    capped_at: float | None
    max_cost: int | None
    allow_unknown_cost: bool
    completed: int
    failed: int
    open: int
    seq: int
    output_bytes: int
    error_bytes: int
    attempts: int
    retries: int
    rate_limited: int
    repeats_at_most: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cost: int
    unknown_cost: int
    reserved: int
    due_at: float | None


@dataclass(slots=True)
class _Tally:
    batch: int
    route: str
    input_price: int | None
    completed: int
    failed: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cost: int
    unknown_cost: int
    truncated: int
    filtered: int
    refused: int
    empty: int
    retries: int
    rate_limited: int
    alike: int
    alike_code: str | None
    paused_at: float | None


@dataclass(slots=True)
class _Slice:
    id: int
    batch: int
    state: str
    epoch: int
    lease_owner: str | None
    lease_until: float | None
    open: int
    started: str | set[int]
    reserved: int


@dataclass(slots=True)
class _Job:
    id: int
    state: int
    generation: int
    slice: int


def record(
    session: Session, holder: str, ends: Sequence[Ended], starts: Sequence[Start], *, again: bool = False
) -> Recorded:
    """Store ``ends``, then grant ``starts``. ``again``: the commit of the same ends may already have succeeded."""
    book = _Book(session.connection(), holder, ends, starts)
    known = book.known_attempts(ends) if again else frozenset()
    for end in ends:
        book.end(end, is_new=(end.job, end.attempt) not in known)
    answer = Recorded(granted=[book.start(start) for start in starts])
    book.write()
    answer.batches = {
        number: BatchView(stop=batch.stop is not None, held=batch.paused_at is not None or batch.capped_at is not None)
        for number, batch in book.batches.items()
    }
    return answer


class _Book:
    """The rows that one transaction has locked, changed in memory and written once."""

    def __init__(self, connection: Connection, holder: str, ends: Sequence[Ended], starts: Sequence[Start]) -> None:
        self.connection = connection
        self.holder = holder
        items: list[Ended | Start] = [*ends, *starts]
        self.batches = {row.number: row for row in _load(connection, _Batch, "number", {i.batch for i in items})}
        self.now = float(connection.execute(_NOW).scalar_one())
        jobs = _load(connection, _Job, "id", {end.job for end in ends}, lock=False)
        self.jobs = {row.id: row for row in jobs}
        slices = {item.slice for item in items} | {row.slice for row in jobs}
        self.slices = {row.id: row for row in _load(connection, _Slice, "id", slices)}
        self.tallies = {
            (t.batch, t.route): t for t in _load(connection, _Tally, "batch", set(self.batches), lock=False)
        }
        for row in self.slices.values():
            row.started = {int(line) for line in str(row.started).split(",") if line}
        self.attempt_rows: list[tuple[Any, ...]] = []
        self.result_rows: dict[tuple[int, int], tuple[Any, ...]] = {}
        self.replaced: list[tuple[int, int]] = []
        self.superseded: list[tuple[int, int, int]] = []
        self.changed_jobs: dict[int, tuple[_Job, str | None]] = {}
        self.touched_tallies: set[tuple[int, str]] = set()

    def known_attempts(self, ends: Sequence[Ended]) -> frozenset[tuple[int, int]]:
        rows = _select(self.connection, "SELECT job, id FROM attempt WHERE job", {end.job for end in ends})
        return frozenset((row[0], row[1]) for row in rows)

    def end(self, end: Ended, *, is_new: bool) -> None:
        batch, tally = self.batches[end.batch], self.tallies[(end.batch, end.route)]
        fenced = self._holds(end.slice, end.epoch)
        if is_new:
            self._attempt(batch, tally, end)
        if fenced:
            self._landed(batch, self.slices[end.slice], end, is_new)
        job = self.jobs[end.job]
        if self._decides(batch, job, end, fenced):
            self._result(batch, tally, job, end)

    def start(self, start: Start) -> Granted:
        batch, slice = self.batches[start.batch], self.slices[start.slice]
        tally = self.tallies[(start.batch, start.route)]
        if (
            not self._holds(start.slice, start.epoch)
            or (slice.lease_until or 0) <= self.now
            or batch.status != BatchStatus.IN_PROGRESS
            or any(mark is not None for mark in (batch.stop, batch.paused_at, batch.capped_at, tally.paused_at))
        ):
            return Granted(0, closed=True)
        if batch.max_cost is not None and not batch.allow_unknown_cost and tally.input_price is None:
            tally.paused_at, tally.alike_code = self.now, UNKNOWN_COST
            self.touched_tallies.add((tally.batch, tally.route))
            return Granted(0, closed=True)
        granted = 0
        assert isinstance(slice.started, set)
        for job, cost in zip(start.jobs, start.costs, strict=True):
            line = tables.job_line(job)
            if line not in slice.started:
                if batch.max_cost is not None and batch.cost + batch.reserved + cost > batch.max_cost:
                    batch.capped_at = self.now if batch.reserved == 0 else None
                    break
                batch.reserved += cost
                slice.reserved += cost
                slice.started.add(line)
            granted += 1
        return Granted(granted, closed=batch.capped_at is not None)

    def write(self) -> None:
        executemany(self.connection, _INSERT_ATTEMPT, self.attempt_rows)
        executemany(self.connection, "DELETE FROM result WHERE job = ? AND generation = ?", self.replaced)
        executemany(
            self.connection,
            "UPDATE result SET superseded_in = ? WHERE job = ? AND generation = ?",
            self.superseded,
        )
        executemany(self.connection, _INSERT_RESULT, list(self.result_rows.values()))
        executemany(
            self.connection,
            "UPDATE job SET state = ?, generation = ?, error_code = ? WHERE id = ?",
            [(job.state, job.generation, code, job.id) for job, code in self.changed_jobs.values()],
        )
        for slice in self.slices.values():
            if slice.open == 0:
                self.batches[slice.batch].reserved -= slice.reserved
            assert isinstance(slice.started, set)
            slice.started = ",".join(map(str, sorted(slice.started)))
        executemany(self.connection, _UPDATE_SLICE, [_slice_values(row) for row in self.slices.values()])
        executemany(self.connection, _UPDATE_BATCH, [_batch_values(row, self.now) for row in self.batches.values()])
        executemany(self.connection, _UPDATE_TALLY, [_tally_values(self.tallies[key]) for key in self.touched_tallies])

    def _holds(self, slice: int, epoch: int) -> bool:
        row = self.slices[slice]
        return row.state == SliceState.LEASED and row.epoch == epoch and row.lease_owner == self.holder

    def _attempt(self, batch: _Batch, tally: _Tally, end: Ended) -> None:
        self.attempt_rows.append(_attempt_values(end))
        self.touched_tallies.add((tally.batch, tally.route))
        batch.attempts += 1
        for sums in (batch, tally):
            sums.retries += end.outcome is Outcome.RETRY
            sums.rate_limited += end.outcome is Outcome.RATE_LIMITED
            sums.cost += end.cost or 0
            sums.unknown_cost += end.cost is None
            if end.usage is not None:
                sums.input_tokens += end.usage.input_tokens
                sums.cached_tokens += end.usage.cached_tokens
                sums.output_tokens += end.usage.output_tokens
                sums.reasoning_tokens += end.usage.reasoning_tokens

    def _landed(self, batch: _Batch, slice: _Slice, end: Ended, is_new: bool) -> None:
        """The call is over and known: it can no longer be repeated unawares, and its reservation is settled."""
        batch.repeats_at_most += is_new and end.outcome is Outcome.ABANDONED and batch.stop is None
        line = tables.job_line(end.job)
        assert isinstance(slice.started, set)
        if line in slice.started:
            slice.started.discard(line)
            slice.reserved -= end.reserved
            batch.reserved -= end.reserved

    def _decides(self, batch: _Batch, job: _Job, end: Ended, fenced: bool) -> bool:
        if batch.status in AT_REST or end.kind is None:
            return False
        if end.outcome is Outcome.SUCCEEDED:
            return job.state != JobState.SUCCEEDED
        return job.state == JobState.PENDING and fenced and job.generation == end.generation

    def _result(self, batch: _Batch, tally: _Tally, job: _Job, end: Ended) -> None:
        succeeded = end.outcome is Outcome.SUCCEEDED
        if job.state == JobState.PENDING:
            batch.open -= 1
            self.slices[job.slice].open -= 1
        else:
            self._withdraw(batch, tally, job)
        job.generation = batch.generation
        for sums in (batch, tally):
            sums.completed += succeeded
            sums.failed += not succeeded
        batch.seq += 1
        batch.output_bytes += len(end.line) if succeeded else 0
        batch.error_bytes += 0 if succeeded else len(end.line)
        row = (job.id, job.generation, end.owner, batch.number, batch.seq, end.kind, end.line)
        self.result_rows[(job.id, job.generation)] = row
        job.state = JobState.SUCCEEDED if succeeded else JobState.FAILED
        self.changed_jobs[job.id] = (job, end.error_code)
        _note_ending(tally, end)
        _note_alike(tally, end, self.now)

    def _withdraw(self, batch: _Batch, tally: _Tally, job: _Job) -> None:
        """An error row gives way to the success that arrived after it; in the file of an older generation it stays."""
        key = (job.id, job.generation)
        if unwritten := self.result_rows.pop(key, None):
            size = len(unwritten[-1])
        else:
            [[size]] = _select(
                self.connection,
                f"SELECT length(line) FROM result WHERE generation = {job.generation} AND job",
                {job.id},
            )
            if job.generation == batch.generation:
                self.replaced.append(key)
            else:
                self.superseded.append((batch.generation, *key))
        batch.error_bytes -= size
        for sums in (batch, tally):
            sums.failed -= 1


def _note_ending(tally: _Tally, end: Ended) -> None:
    match end.ending:
        case "truncated":
            tally.truncated += 1
        case "filtered":
            tally.filtered += 1
        case "refused":
            tally.refused += 1
        case "empty":
            tally.empty += 1


def _note_alike(tally: _Tally, end: Ended, now: float) -> None:
    """Count first lines that fail alike; -1 once anything else has finished."""
    code = end.error_code
    if end.outcome is Outcome.SUCCEEDED or code in NEVER_ALIKE or tally.alike_code not in (None, code):
        tally.alike = -1
    elif tally.alike >= 0:
        tally.alike, tally.alike_code = tally.alike + 1, code
        if tally.alike == ALIKE_LIMIT:
            tally.paused_at = now


Row = TypeVar("Row", _Batch, _Tally, _Slice, _Job)


def _load(connection: Connection, kind: type[Row], key: str, ids: Iterable[int], *, lock: bool = True) -> list[Row]:
    """Rows of the table that ``kind`` mirrors, locked in the order of their keys."""
    columns = ", ".join(column.name for column in fields(kind))
    table = kind.__name__.strip("_").lower()
    tail = f" ORDER BY {key}" + (" FOR UPDATE" if lock and connection.dialect.name == "postgresql" else "")
    return [kind(*row) for row in _select(connection, f"SELECT {columns} FROM {table} WHERE {key}", ids, tail)]


def _select(connection: Connection, head: str, ids: Iterable[int], tail: str = "") -> Sequence[Any]:
    """``head`` ends with the column that must be one of ``ids`` (integers of ours, so they may stand in the text)."""
    places = ",".join(map(str, sorted(ids)))
    return connection.exec_driver_sql(f"{head} IN ({places}){tail}").all() if places else ()


def _attempt_values(end: Ended) -> tuple[Any, ...]:
    usage = end.usage
    return (
        end.job,
        end.attempt,
        end.owner,
        end.generation,
        end.epoch,
        end.deployment,
        "live",
        end.seconds,
        end.outcome,
        end.status_code,
        end.error_code,
        end.request_id,
        end.model,
        end.fingerprint,
        end.ending,
        usage and usage.input_tokens,
        usage and usage.cached_tokens,
        usage and usage.cache_write_tokens,
        usage and usage.output_tokens,
        usage and usage.reasoning_tokens,
        end.cost,
        end.cost_source,
    )


def _slice_values(row: _Slice) -> tuple[Any, ...]:
    if row.open == 0:
        return (SliceState.DONE, None, None, 0, "", 0, row.id)
    return (row.state, row.lease_owner, row.lease_until, row.open, row.started, row.reserved, row.id)


def _batch_values(row: _Batch, now: float) -> tuple[Any, ...]:
    if row.open == 0 and row.status not in AT_REST:
        row.due_at = now
    return (*astuple(row)[_BATCH_FIRST:], row.number)


def _tally_values(row: _Tally) -> tuple[Any, ...]:
    return (*astuple(row)[_TALLY_FIRST:], row.batch, row.route)


_NOW = select(clock.now())
_BATCH_FIRST = 5
"""The fields before it (number, status, generation, stop, paused_at) are only read here."""
_TALLY_FIRST = 3
"""Likewise (batch, route, input_price)."""

_INSERT_ATTEMPT = """INSERT INTO attempt (job, id, owner, generation, epoch, deployment, lane, seconds, outcome,
 status_code, error_code, request_id, model, fingerprint, ending, input_tokens, cached_tokens, cache_write_tokens,
 output_tokens, reasoning_tokens, cost, cost_source) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"""
_INSERT_RESULT = "INSERT INTO result (job, generation, owner, batch, seq, kind, line) VALUES (?,?,?,?,?,?,?)"
_UPDATE_SLICE = """UPDATE slice SET state = ?, lease_owner = ?, lease_until = ?, open = ?, started = ?, reserved = ?
 WHERE id = ?"""
_UPDATE_BATCH = f"UPDATE batch SET {', '.join(f'{f.name} = ?' for f in fields(_Batch)[_BATCH_FIRST:])} WHERE number = ?"
_UPDATE_TALLY = f"""UPDATE tally SET {", ".join(f"{f.name} = ?" for f in fields(_Tally)[_TALLY_FIRST:])}
 WHERE batch = ? AND route = ?"""
