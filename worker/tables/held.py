"""Requests that came inline."""

from sqlalchemy import BigInteger, Column, LargeBinary
from sqlmodel import Field, SQLModel


class RequestBody(SQLModel, table=True):
    """The body of a held job's one line, which has no input file; and whether somebody still waits for its answer."""

    __tablename__ = "request_body"

    batch: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    owner: str
    holder: str | None = None
    """The process whose client waits; None: nobody does, the answer is asked for by the job's id."""
    abandoned_at: float | None = None
    """When that client went away without the answer."""
    delivered_at: float | None = None
    body: bytes = Field(sa_type=LargeBinary)
