"""Secrets at rest."""

from sqlmodel import Field, SQLModel


class Secret(SQLModel, table=True):
    """An encrypted secret; the master key that opens it is never in the database."""

    __tablename__ = "secret"

    name: str = Field(primary_key=True)
    """``provider/<name>/<account>``."""
    owner: str
    sealed: str
    hint: str
    """What may be shown of it."""
    created_at: float
    changed_at: float
