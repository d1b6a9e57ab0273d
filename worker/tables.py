"""The tables. A batch has a number (inside, for rows that come in millions) and an id (outside, for everybody).

Times are unix seconds by the database's clock, money is an integer of pico-USD (1e-12 USD), None is "unknown".
"""

from typing import cast

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
)
from sqlmodel import Field, SQLModel

LINE_BITS = 32

_Serial = BigInteger().with_variant(Integer(), "sqlite")
"""A key that is SQLite's own row number, which needs no index."""


def job_id(batch: int, line: int) -> int:
    """The key of a line's job: input order is key order, and no sequence has to be asked for it."""
    return batch << LINE_BITS | line


def job_batch(job: int) -> int:
    return job >> LINE_BITS


def job_line(job: int) -> int:
    return job & (1 << LINE_BITS) - 1


class File(SQLModel, table=True):
    """An uploaded input file. Output and error files are queries over results and have no row here."""

    __tablename__ = "file"

    id: str = Field(primary_key=True)
    owner: str = Field(index=True)
    purpose: str
    filename: str
    bytes: int = Field(sa_type=BigInteger)
    sha256: str
    created_at: float
    expires_at: float | None = None
    deleted_at: float | None = None
    """Hidden at once; the bytes go when no batch needs them."""
    erased_at: float | None = None


class Batch(SQLModel, table=True):
    """What a client submits. Its counters are changed only in the transaction that changes the rows they count."""

    __tablename__ = "batch"
    __table_args__ = (
        Index("batch_due", "due_at"),
        Index("batch_by_owner", "owner", "number"),
        Index("batch_by_identity", "owner", "identity"),
        Index("batch_by_fingerprint", "owner", "fingerprint"),
        Index("batch_by_input", "input_file_id"),
    )

    number: int | None = Field(default=None, sa_column=Column(_Serial, primary_key=True, autoincrement=True))
    id: str = Field(unique=True)
    owner: str
    status: str
    generation: int = 1
    endpoint: str
    model: str | None = None
    input_file_id: str
    completion_window: str
    metadata_: dict[str, str] = Field(default_factory=dict, sa_column=Column("metadata", JSON, nullable=False))
    fingerprint: str
    """Digest of the create request: finds the first one when an SDK sends a lost create again."""
    identity: str | None = None
    """Digest of a run's file and sending options (``gristmill run`` resumes by it)."""
    priority: int = 0
    invalid_lines: str = "fail"
    line_limit: int | None = None
    max_cost: int | None = Field(default=None, sa_type=BigInteger)
    allow_unknown_cost: bool = False
    output_expires_after: int | None = None

    created_at: float
    window_seconds: float | None = None
    expires_at: float | None = None
    in_progress_at: float | None = None
    finalizing_at: float | None = None
    completed_at: float | None = None
    failed_at: float | None = None
    expired_at: float | None = None
    cancelling_at: float | None = None
    cancelled_at: float | None = None

    stop: str | None = None
    """``cancel`` or ``expire``: no call may start any more (states.Stop)."""
    stop_at: float | None = None
    paused_at: float | None = None
    """Set by its owner, or by ``hold`` at creation: lines wait until resumed."""
    blocked_since: float | None = None
    """No open line may start for a reason outside the batch; this time does not count against its window."""
    capped_at: float | None = None
    """The next call would pass ``max_cost``."""
    due_at: float | None = None
    due_tries: int = 0

    intake_line: int = 0
    intake_offset: int = Field(default=0, sa_type=BigInteger)
    invalid: int = 0

    total: int = 0
    completed: int = 0
    failed: int = 0
    open: int = 0
    seq: int = 0
    """Commit order of result rows, the offset of readers while the batch runs."""
    output_bytes: int = Field(default=0, sa_type=BigInteger)
    error_bytes: int = Field(default=0, sa_type=BigInteger)
    attempts: int = 0
    retries: int = 0
    rate_limited: int = 0
    repeats_at_most: int = 0
    input_tokens: int = Field(default=0, sa_type=BigInteger)
    cached_tokens: int = Field(default=0, sa_type=BigInteger)
    output_tokens: int = Field(default=0, sa_type=BigInteger)
    reasoning_tokens: int = Field(default=0, sa_type=BigInteger)
    cost: int = Field(default=0, sa_type=BigInteger)
    unknown_cost: int = 0
    reserved: int = Field(default=0, sa_type=BigInteger)
    """Estimated cost of the calls in flight."""


class Tally(SQLModel, table=True):
    """One asked-for model of one batch: what was estimated, what came of it, and whether it pauses alone."""

    __tablename__ = "tally"

    batch: int = Field(sa_column=Column(BigInteger, primary_key=True))
    route: str = Field(primary_key=True)
    owner: str
    lines: int = 0
    completed: int = 0
    failed: int = 0
    estimated_input_tokens: int = Field(default=0, sa_type=BigInteger)
    estimated_output_tokens: int = Field(default=0, sa_type=BigInteger)
    input_price: int | None = Field(default=None, sa_type=BigInteger)
    """Estimated pico-USD a token; None while the price is unknown."""
    output_price: int | None = Field(default=None, sa_type=BigInteger)
    input_tokens: int = Field(default=0, sa_type=BigInteger)
    cached_tokens: int = Field(default=0, sa_type=BigInteger)
    output_tokens: int = Field(default=0, sa_type=BigInteger)
    reasoning_tokens: int = Field(default=0, sa_type=BigInteger)
    cost: int = Field(default=0, sa_type=BigInteger)
    unknown_cost: int = 0
    truncated: int = 0
    filtered: int = 0
    refused: int = 0
    empty: int = 0
    retries: int = 0
    rate_limited: int = 0
    alike: int = 0
    """Finished lines that all failed with ``alike_code`` and nothing else finished: at 20 the model pauses."""
    alike_code: str | None = None
    paused_at: float | None = None


class Slice(SQLModel, table=True):
    """Jobs of one batch and one route: the unit of lease, and of a Celery task."""

    __tablename__ = "slice"
    __table_args__ = (
        Index("slice_by_state", "state", "batch", "route", "first_line"),
        Index("slice_by_batch", "batch", "state"),
    )

    id: int | None = Field(default=None, sa_column=Column(_Serial, primary_key=True, autoincrement=True))
    owner: str
    batch: int = Field(sa_type=BigInteger)
    generation: int = 1
    route: str
    provider: str | None = None
    state: str = "ready"
    first_line: int
    """The first line that is still pending (as of the last release)."""
    jobs: int
    open: int
    tokens: int = Field(default=0, sa_type=BigInteger)
    epoch: int = 0
    lease_owner: str | None = None
    lease_until: float | None = None
    not_before: float | None = None
    published_at: float | None = None
    published: int = 0
    """How often a message for the present epoch was sent."""
    started: str = ""
    """Lines whose call may have begun and whose answer is not stored: what a crash may cause to be called again."""
    reserved: int = Field(default=0, sa_type=BigInteger)
    crashes: int = 0
    alone: bool = False
    """One job by itself, because its slice has crashed a worker twice."""


class Job(SQLModel, table=True):
    """One line. Written at intake and when its result is stored; being in flight is not a row change."""

    __tablename__ = "job"
    __table_args__ = (Index("job_by_slice", "slice"),)

    id: int = Field(sa_column=Column(_Serial, primary_key=True, autoincrement=False))
    owner: str
    slice: int = Field(sa_type=BigInteger)
    custom_id: str | None = None
    endpoint: str
    lane: str = "live"
    state: int = Field(default=0, sa_type=SmallInteger)
    generation: int = 1
    offset: int = Field(sa_type=BigInteger)
    """Where the request body stands in the input file, in bytes."""
    length: int
    model_offset: int
    """Where the JSON string of the body's ``model`` stands in the body."""
    model_length: int
    input_tokens: int
    """Estimates, replaced by nothing: the true numbers stand on the attempts."""
    output_tokens: int
    attempts: int = Field(default=0, sa_type=SmallInteger)
    """Failures that count against ``max_retries``."""
    not_before: float | None = None
    error_code: str | None = None


class Attempt(SQLModel, table=True):
    """One provider call. ``id`` is the nanosecond at which it began by its process's clock, made before the call."""

    __tablename__ = "attempt"

    job: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    id: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    owner: str
    generation: int
    epoch: int
    deployment: str
    lane: str = "live"
    seconds: float
    outcome: str
    status_code: int | None = None
    error_code: str | None = None
    request_id: str | None = None
    model: str | None = None
    fingerprint: str | None = None
    ending: str | None = None
    input_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost: int | None = Field(default=None, sa_type=BigInteger)
    cost_source: str | None = None


class Result(SQLModel, table=True):
    """The finished JSONL line of a job in one generation. Immutable but for ``superseded_in``."""

    __tablename__ = "result"
    __table_args__ = (Index("result_by_seq", "batch", "seq"),)

    job: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    generation: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    owner: str
    batch: int = Field(sa_type=BigInteger)
    seq: int
    kind: str
    """``output`` or ``error``: the file in which the line stands."""
    line: bytes = Field(sa_type=LargeBinary)
    superseded_in: int | None = None


class LineError(SQLModel, table=True):
    """What is wrong with a line of an input file, found at intake."""

    __tablename__ = "line_error"

    batch: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    line: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    """0 for an error of the whole file."""
    owner: str
    code: str
    message: str = Field(sa_type=Text)
    param: str | None = None


class Event(SQLModel, table=True):
    """The outbox: what owners are to be told, written with the fact itself. One event a (batch, generation, type)."""

    __tablename__ = "event"
    __table_args__ = (UniqueConstraint("batch", "generation", "type"),)

    id: str = Field(primary_key=True)
    owner: str = Field(index=True)
    batch: int = Field(sa_type=BigInteger)
    generation: int
    type: str
    created_at: float


class Scope(SQLModel, table=True):
    """Whose quota a call spends (provider, account, model), and whether it rests."""

    __tablename__ = "scope"

    id: str = Field(primary_key=True)
    owner: str
    paused_at: float | None = None
    reason: str | None = None
    detail: str | None = None
    probe_at: float | None = None
    probes: int = 0


class Process(SQLModel, table=True):
    """A worker process and its heartbeat; the id is (boot id, PID namespace, pid, start time)."""

    __tablename__ = "process"

    id: str = Field(primary_key=True)
    owner: str
    name: str
    queues: list[str] = Field(sa_type=JSON)
    slots: int
    started_at: float
    seen_at: float
    stopped_at: float | None = None


class Leadership(SQLModel, table=True):
    """An election: whoever holds the row until ``until`` runs the loops of that name."""

    __tablename__ = "leadership"

    name: str = Field(primary_key=True)
    owner: str
    holder: str
    until: float


def _core(model: type[SQLModel]) -> Table:
    return cast(Table, model.__table__)  # type: ignore[attr-defined]


BATCH, TALLY, SLICE, JOB = _core(Batch), _core(Tally), _core(Slice), _core(Job)
ATTEMPT, RESULT, FILE, SCOPE = _core(Attempt), _core(Result), _core(File), _core(Scope)
PROCESS, LEADERSHIP = _core(Process), _core(Leadership)
"""The same tables for statements of SQLAlchemy Core, which the hot paths use."""
