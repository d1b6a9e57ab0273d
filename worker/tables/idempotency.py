"""Creates that must happen once."""

from sqlalchemy import LargeBinary
from sqlmodel import Field, SQLModel


class Idempotency(SQLModel, table=True):
    """What a client that names a key was answered, written in the transaction that did what it asked for."""

    __tablename__ = "idempotency"

    owner: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    fingerprint: str
    """Digest of the request: the same key with another one is a mistake."""
    status: int
    answer: bytes = Field(sa_type=LargeBinary)
    created_at: float = Field(index=True)
