"""Uploaded files."""

from sqlalchemy import BigInteger
from sqlmodel import Field, SQLModel


class File(SQLModel, table=True):
    """An uploaded input file. Output and error files are queries over results and have no row here."""

    __tablename__ = "file"

    id: str = Field(primary_key=True)
    owner: str = Field(index=True)
    purpose: str
    filename: str
    bytes: int = Field(sa_type=BigInteger)
    sha256: str
    created_at: float
    expires_at: float | None = None
    deleted_at: float | None = None
    """Hidden at once; the bytes go when no batch needs them."""
    erased_at: float | None = None
