"""API keys, and what they have spent."""

import sqlalchemy
from sqlalchemy import JSON, BigInteger, Column
from sqlmodel import Field, SQLModel


class ApiKey(SQLModel, table=True):
    """Lets its holder in as ``owner``. Rows stay when a key is revoked: a server with keys never becomes keyless."""

    __tablename__ = "api_key"

    id: str = Field(primary_key=True)
    owner: str = Field(index=True)
    name: str
    hash: str = Field(unique=True)
    """SHA-256 of the secret, which has 256 random bits: nothing slower is needed."""
    hint: str
    """The secret's last characters."""
    models: list[str] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True), nullable=True))
    """Patterns of the models that it may use; None: all."""
    budget_day: int | None = Field(default=None, sa_type=BigInteger)
    budget_month: int | None = Field(default=None, sa_type=BigInteger)
    budget_batch: int | None = Field(default=None, sa_type=BigInteger)
    over_budget: str = "pause"
    allow_unknown_cost: bool = Field(default=False, sa_column_kwargs={"server_default": sqlalchemy.false()})
    """Whether, in spite of a budget, it may ask for models of unknown price."""
    created_at: float
    expires_at: float | None = None
    last_used_at: float | None = None
    """Noted once a minute at most."""
    revoked_at: float | None = None
    reserved: int = Field(default=0, sa_type=BigInteger)
    """Estimated cost of the calls in flight of all its batches."""


class Spend(SQLModel, table=True):
    """What the calls of a key have cost that ended in a UTC day (``2026-11-21``) or month (``2026-11``)."""

    __tablename__ = "spend"

    api_key: str = Field(primary_key=True)
    period: str = Field(primary_key=True)
    owner: str
    cost: int = Field(default=0, sa_type=BigInteger)
