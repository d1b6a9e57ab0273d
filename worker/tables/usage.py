"""What is known of calls whose rows were deleted."""

from sqlalchemy import BigInteger
from sqlmodel import Field, SQLModel


class UsageHistory(SQLModel, table=True):
    """Sums of deleted attempts: people bill by them. The view ``usage`` adds those that are still there."""

    __tablename__ = "usage_history"

    owner: str = Field(primary_key=True)
    day: str = Field(primary_key=True)
    """UTC, ``2026-11-21``."""
    batch: str = Field(primary_key=True)
    """Its id; ``held`` for all held jobs together, which are too many to be kept apart."""
    model: str = Field(primary_key=True)
    """``provider/model`` as it was called."""
    provider: str = Field(primary_key=True)
    api_key: str = Field(primary_key=True)
    """Empty: none."""
    attempts: int = Field(sa_type=BigInteger)
    succeeded: int = Field(sa_type=BigInteger)
    told: int = Field(sa_type=BigInteger)
    """Attempts whose tokens are known."""
    billed: int = Field(sa_type=BigInteger)
    """Attempts that cost something, or of which nobody knows."""
    input_tokens: int = Field(sa_type=BigInteger)
    cached_tokens: int = Field(sa_type=BigInteger)
    output_tokens: int = Field(sa_type=BigInteger)
    reasoning_tokens: int = Field(sa_type=BigInteger)
    cost: int = Field(sa_type=BigInteger)
    unknown_cost: int = Field(sa_type=BigInteger)
