"""The outbox."""

from typing import Any

from sqlalchemy import JSON, BigInteger, Column, Index, Integer, UniqueConstraint
from sqlmodel import Field, SQLModel


class Event(SQLModel, table=True):
    """The outbox: what owners are to be told, written with the fact itself. A batch ends once a generation."""

    __tablename__ = "event"
    __table_args__ = (
        UniqueConstraint("batch", "generation", "type", "number", name="event_once"),
        Index("event_to_fan", "fanned_at"),
    )

    id: str = Field(primary_key=True)
    owner: str = Field(index=True)
    batch: int = Field(sa_type=BigInteger)
    generation: int
    type: str
    number: int = Field(default=1, sa_column=Column(Integer, nullable=False, server_default="1"))
    """Which one of its type; only what happens while a batch runs can happen again."""
    data: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True), nullable=True))
    """What is told besides the batch's id."""
    created_at: float
    fanned_at: float | None = None
    """When its deliveries were made."""
