"""Who is told what: endpoints, what is to be sent to them, and what came of it."""

from sqlalchemy import JSON, Boolean, Column, Index, Integer, LargeBinary, String, UniqueConstraint, false
from sqlmodel import Field, SQLModel

from worker.tables.sealed import SealedText


class WebhookEndpoint(SQLModel, table=True):
    """A URL that an owner wants to be called for some types of events, or for the batches that name it."""

    __tablename__ = "webhook_endpoint"

    id: str = Field(primary_key=True)
    owner: str = Field(index=True)
    name: str
    url: str
    receiver: str = Field(default="", sa_column=Column(String, nullable=False, server_default=""))
    """Host and port of the URL: what is sent to one receiver does not wait for another."""
    of_batches: bool = Field(
        default=False, sa_column=Column(Boolean, nullable=False, default=False, server_default=false())
    )
    """Made by batches with a ``webhook_url``: signed with the owner's secret, and told what each batch asked for."""
    event_types: list[str] = Field(sa_type=JSON)
    secret: str = Field(sa_type=SealedText)
    """Empty if ``of_batches``."""
    old_secret: str | None = Field(default=None, sa_type=SealedText)
    """Signs beside the new one until ``old_secret_until``."""
    old_secret_until: float | None = None
    created_at: float
    updated_at: float
    disabled_at: float | None = None
    """It answered 410: nothing is sent until its owner changes it."""
    failing_since: float | None = None
    rests_until: float | None = None
    """It asked for patience: nothing is sent to it before."""


class WebhookSecret(SQLModel, table=True):
    """An owner's secret, with which the webhooks of his batches are signed."""

    __tablename__ = "webhook_secret"

    owner: str = Field(primary_key=True)
    secret: str = Field(sa_type=SealedText)
    old_secret: str | None = Field(default=None, sa_type=SealedText)
    old_secret_until: float | None = None
    created_at: float
    updated_at: float


class Delivery(SQLModel, table=True):
    """One event for one endpoint; its id is the ``webhook-id`` of every try."""

    __tablename__ = "delivery"
    __table_args__ = (
        UniqueConstraint("event", "endpoint"),
        Index("delivery_due", "due_at"),
        Index("delivery_by_endpoint", "endpoint", "created_at"),
    )

    id: str = Field(primary_key=True)
    owner: str
    event: str
    endpoint: str
    state: str = "pending"
    tries: int = 0
    """Those that ended; the schedule counts them from the last replay."""
    sent: int = 0
    """All that ended, ever."""
    due_at: float | None = None
    created_at: float
    last_status: int | None = None
    last_error: str | None = None
    delivered_at: float | None = None


class DeliveryAttempt(SQLModel, table=True):
    """One try, as its owner sees it."""

    __tablename__ = "delivery_attempt"

    delivery: str = Field(sa_column=Column(String, primary_key=True))
    number: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    owner: str
    at: float
    seconds: float
    status: int | None = None
    error: str | None = None
    answer: bytes = Field(default=b"", sa_type=LargeBinary)
    """The first bytes of it."""
