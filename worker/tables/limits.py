"""What is known of scopes' quotas, and when batches will be done."""

from sqlalchemy import BigInteger, Column
from sqlmodel import Field, SQLModel


class Quota(SQLModel, table=True):
    """A scope's limit of one quota (providers/rate_limits.py) as it was last in force, before any share of it."""

    __tablename__ = "quota"

    scope: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    owner: str
    allowed: float
    """A minute or a day."""
    source: str
    """``config``, ``headers`` or ``refusals``."""
    learned_at: float
    """When it became what it is."""
    level: float
    """What is left of it, at ``seen_at``."""
    seen_at: float


class ScopeReport(SQLModel, table=True):
    """What one process said last of a scope that it uses. Worth reading while it is fresh."""

    __tablename__ = "scope_report"

    scope: str = Field(primary_key=True)
    process: str = Field(primary_key=True)
    owner: str
    in_flight: int
    waiting: int
    places: float
    """Calls in flight that the scope bears, of all processes."""
    seconds: float
    """Mean length of the last calls; 0 while there was none."""
    rest_until: float | None = None
    requests: int
    """Calls that began in the last minute."""
    tokens: int = Field(sa_type=BigInteger)
    """What calls used that ended in the last minute."""
    reported_at: float


class Eta(SQLModel, table=True):
    """When a running batch will be done if all goes on as it does."""

    __tablename__ = "eta"

    batch: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    owner: str
    done_at: float
    made_at: float
