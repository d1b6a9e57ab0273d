"""The rows that one recording reads and writes, and their statements: driver-level, for this is the hottest path."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, TypeVar

from sqlalchemy import Connection, select

from worker import clock
from worker.states import AT_REST, SliceState
from worker.store.calls import Ended


@dataclass(slots=True)
class BatchRow:
    number: int
    status: str
    generation: int
    stop: str | None
    paused_at: float | None
    deleted_at: float | None
    kind: str
    api_key: str | None
    capped_at: float | None
    over_budget_at: float | None
    over_budget_until: float | None
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
class TallyRow:
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
class SliceRow:
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
class JobRow:
    id: int
    state: int
    generation: int
    slice: int


Row = TypeVar("Row", BatchRow, TallyRow, SliceRow, JobRow)


def load(connection: Connection, kind: type[Row], key: str, ids: Iterable[int], *, lock: bool = True) -> list[Row]:
    """Rows of the table that ``kind`` mirrors, locked in the order of their keys."""
    columns = ", ".join(column.name for column in fields(kind))
    table = kind.__name__.removesuffix("Row").lower()
    tail = f" ORDER BY {key}" + (" FOR UPDATE" if lock and connection.dialect.name == "postgresql" else "")
    return [kind(*row) for row in select_in(connection, f"SELECT {columns} FROM {table} WHERE {key}", ids, tail)]


def select_in(connection: Connection, head: str, ids: Iterable[int], tail: str = "") -> Sequence[Any]:
    """``head`` ends with the column that must be one of ``ids`` (integers of ours, so they may stand in the text)."""
    places = ",".join(map(str, sorted(ids)))
    return connection.exec_driver_sql(f"{head} IN ({places}){tail}").all() if places else ()


def attempt_values(end: Ended) -> tuple[Any, ...]:
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
        end.fallback,
    )


def slice_values(row: SliceRow) -> tuple[Any, ...]:
    if row.open == 0:
        return (SliceState.DONE, None, None, 0, "", 0, row.id)
    return (row.state, row.lease_owner, row.lease_until, row.open, row.started, row.reserved, row.id)


def batch_values(row: BatchRow, now: float) -> tuple[Any, ...]:
    if row.open == 0 and row.status not in AT_REST:
        row.due_at = now
    return (*_BATCH_VALUES(row), row.number)


def tally_values(row: TallyRow) -> tuple[Any, ...]:
    return (*_TALLY_VALUES(row), row.batch, row.route)


NOW = select(clock.now())
_BATCH_FIRST = 8
"""The fields before it (number, status, generation, stop, paused_at, deleted_at, kind, api_key) are only read."""
_TALLY_FIRST = 3
"""Likewise (batch, route, input_price)."""
_BATCH_VALUES = attrgetter(*(field.name for field in fields(BatchRow)[_BATCH_FIRST:]))
_TALLY_VALUES = attrgetter(*(field.name for field in fields(TallyRow)[_TALLY_FIRST:]))
"""dataclasses.astuple copies each value deeply, at half the cost of a recording."""

INSERT_ATTEMPT = """INSERT INTO attempt (job, id, owner, generation, epoch, deployment, lane, seconds, outcome,
 status_code, error_code, request_id, model, fingerprint, ending, input_tokens, cached_tokens, cache_write_tokens,
 output_tokens, reasoning_tokens, cost, cost_source, fallback)
 VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"""
INSERT_RESULT = "INSERT INTO result (job, generation, owner, batch, seq, kind, line) VALUES (?,?,?,?,?,?,?)"
UPDATE_SLICE = """UPDATE slice SET state = ?, lease_owner = ?, lease_until = ?, open = ?, started = ?, reserved = ?
 WHERE id = ?"""
UPDATE_BATCH = (
    f"UPDATE batch SET {', '.join(f'{f.name} = ?' for f in fields(BatchRow)[_BATCH_FIRST:])} WHERE number = ?"
)
CLOSE_BATCH = """UPDATE batch SET status = 'completed', finalizing_at = ?, completed_at = ?, due_at = NULL,
 due_tries = 0, blocked_since = NULL WHERE number = ?"""
UPDATE_TALLY = f"""UPDATE tally SET {", ".join(f"{f.name} = ?" for f in fields(TallyRow)[_TALLY_FIRST:])}
 WHERE batch = ? AND route = ?"""
