"""What calls brought: attempts, results, and what was wrong with lines that were never called."""

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, Text
from sqlmodel import Field, SQLModel


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
    fallback: str | None = None
    """Why it was not the model asked for that was called (alias_config.Fallback)."""


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
