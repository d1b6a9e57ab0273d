"""What rests, which processes work, and who leads."""

from sqlalchemy import JSON
from sqlmodel import Field, SQLModel


class Scope(SQLModel, table=True):
    """Whose quota a call spends (provider, account, model), and whether it rests."""

    __tablename__ = "scope"

    id: str = Field(primary_key=True)
    owner: str
    paused_at: float | None = None
    reason: str | None = None
    detail: str | None = None
    probe_at: float | None = None
    probes: int = 0
    share: float | None = None
    """The part of its limits that may be used, where somebody said so while it ran: it counts before the file's."""
    cools_until: float | None = None
    """Until then other deployments of an alias are preferred."""


class Process(SQLModel, table=True):
    """A worker process and its heartbeat; the id is (boot id, PID namespace, pid, start time)."""

    __tablename__ = "process"

    id: str = Field(primary_key=True)
    owner: str
    name: str
    queues: list[str] = Field(sa_type=JSON)
    slots: int
    started_at: float
    seen_at: float
    stopped_at: float | None = None


class Leadership(SQLModel, table=True):
    """An election: whoever holds the row until ``until`` runs the loops of that name."""

    __tablename__ = "leadership"

    name: str = Field(primary_key=True)
    owner: str
    holder: str
    until: float
