"""Lines and how they are leased."""

from sqlalchemy import BigInteger, Column, Index, SmallInteger, String
from sqlmodel import Field, SQLModel

from worker.tables.keys import SERIAL


class Slice(SQLModel, table=True):
    """Jobs of one batch and one route: the unit of lease, and of a Celery task."""

    __tablename__ = "slice"
    __table_args__ = (
        Index("slice_by_state", "state", "batch", "route", "first_line"),
        Index("slice_by_batch", "batch", "state"),
    )

    id: int | None = Field(default=None, sa_column=Column(SERIAL, primary_key=True, autoincrement=True))
    owner: str
    batch: int = Field(sa_type=BigInteger)
    generation: int = 1
    route: str
    trail: str = Field(default="", sa_column=Column(String, nullable=False, server_default=""))
    """How its jobs came to be served by another route than the one asked for (worker/routing/trail.py)."""
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

    id: int = Field(sa_column=Column(SERIAL, primary_key=True, autoincrement=False))
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
    answered_by: int | None = Field(default=None, sa_type=BigInteger)
    """The attempt that gave the current result; None if no call did."""
