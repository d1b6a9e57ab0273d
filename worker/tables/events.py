"""The outbox."""

from sqlalchemy import BigInteger, Index, UniqueConstraint
from sqlmodel import Field, SQLModel


class Event(SQLModel, table=True):
    """The outbox: what owners are to be told, written with the fact itself. One event a (batch, generation, type)."""

    __tablename__ = "event"
    __table_args__ = (UniqueConstraint("batch", "generation", "type"), Index("event_to_fan", "fanned_at"))

    id: str = Field(primary_key=True)
    owner: str = Field(index=True)
    batch: int = Field(sa_type=BigInteger)
    generation: int
    type: str
    created_at: float
    fanned_at: float | None = None
    """When its deliveries were made."""
