"""Batches, and what they asked of each model."""

import sqlalchemy
from sqlalchemy import JSON, BigInteger, Boolean, Column, Index, String
from sqlmodel import Field, SQLModel

from worker.tables.keys import SERIAL


class Batch(SQLModel, table=True):
    """What a client submits. Its counters are changed only in the transaction that changes the rows they count."""

    __tablename__ = "batch"
    __table_args__ = (
        Index("batch_due", "due_at"),
        Index("batch_by_status", "status", "kind", "number"),
        Index("batch_by_owner", "owner", "kind", "number"),
        Index("batch_by_identity", "owner", "identity"),
        Index("batch_by_fingerprint", "owner", "fingerprint"),
        Index("batch_by_input", "input_file_id"),
        Index("batch_over_budget", "api_key", "over_budget_until"),
    )

    number: int | None = Field(default=None, sa_column=Column(SERIAL, primary_key=True, autoincrement=True))
    id: str = Field(unique=True)
    owner: str
    api_key: str | None = None
    """Id of the key that created it; None: this machine's own user, without a key."""
    kind: str = Field(default="batch", sa_column=Column(String, nullable=False, server_default="batch"))
    """Through which surface it came, and so how it is answered (states.Kind)."""
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
    allow_fallback: bool = Field(
        default=False, sa_column=Column(Boolean, nullable=False, server_default=sqlalchemy.false())
    )
    """Whether lines that ask for an alias may go on with what it lists as fallbacks."""
    output_expires_after: int | None = None
    webhook_endpoint: str | None = Field(default=None, index=True)
    """Is told of this batch, besides the owner's other endpoints."""
    webhook_events: list[str] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True), nullable=True))
    outputs_erased_at: float | None = None
    """Its answers have expired and are gone; its counts stay."""

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
    over_budget_at: float | None = None
    over_budget_until: float | None = None
    """Until then the next call would pass a budget of the batch's API key."""
    deleted_at: float | None = None
    """Hidden for ever; its rows go in portions, and this one a day after them."""
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
