"""Input files: rows of the file table, every query by owner. The bytes are in worker/blobs.py."""

import sqlalchemy
from sqlalchemy import ColumnElement
from sqlmodel import Session, col, select

from worker import clock, ids, states
from worker.tables import Batch, File


def add(
    session: Session,
    *,
    id: str,
    owner: str,
    purpose: str,
    filename: str,
    size: int,
    sha256: str,
    expires_after: int | None = None,
) -> File:
    """Make a stored blob a file. ``expires_after`` counts seconds from now."""
    now = session.connection().execute(sqlalchemy.select(clock.now())).scalar_one()
    file = File(
        id=id,
        owner=owner,
        purpose=purpose,
        filename=filename,
        bytes=size,
        sha256=sha256,
        created_at=now,
        expires_at=None if expires_after is None else now + expires_after,
    )
    session.add(file)
    session.flush()
    return file


def get(session: Session, owner: str, id: str) -> File | None:
    """The file unless it is deleted or expired."""
    if not ids.is_file(id):
        return None
    return session.exec(select(File).where(File.id == id, File.owner == owner, visible())).first()


def claim(session: Session, owner: str, id: str) -> File | None:
    """``get`` for a batch that is about to need the file: no deletion can slip in before this transaction ends."""
    if not ids.is_file(id):
        return None
    query = select(File).where(File.id == id, File.owner == owner, visible())
    return session.exec(query.with_for_update()).first()


def delete(session: Session, owner: str, id: str) -> bool:
    """Hide the file at once. Its bytes go when no batch needs them (``erase_unneeded``)."""
    if not ids.is_file(id):
        return False
    change = (
        sqlalchemy.update(File)
        .where(col(File.id) == id, col(File.owner) == owner, visible())
        .values(deleted_at=clock.now())
    )
    return bool(session.connection().execute(change).rowcount)


def erase_unneeded(session: Session, limit: int = 1000) -> list[str]:
    """Files whose bytes may go now: deleted or expired, and no batch that is not at rest reads them.

    Erase the blobs first and confirm with ``erased``: a crash between the two only repeats the erasing.
    """
    expire = (
        sqlalchemy.update(File)
        .where(col(File.deleted_at).is_(None), col(File.expires_at) <= clock.now())
        .values(deleted_at=clock.now())
    )
    session.connection().execute(expire)
    query = sqlalchemy.select(col(File.id)).where(
        col(File.deleted_at).is_not(None), col(File.erased_at).is_(None), ~needed()
    )
    return list(session.connection().execute(query.limit(limit)).scalars())


def erased(session: Session, names: list[str]) -> None:
    """The bytes of these files are gone."""
    change = sqlalchemy.update(File).where(col(File.id).in_(names)).values(erased_at=clock.now())
    session.connection().execute(change)


def unknown(session: Session, names: list[str]) -> list[str]:
    """Those names that no row was ever written for: a crash came between the blob and its row."""
    found = set(session.connection().execute(sqlalchemy.select(col(File.id)).where(col(File.id).in_(names))).scalars())
    return [name for name in names if name not in found]


def needed() -> ColumnElement[bool]:
    """A batch that is not at rest reads it."""
    running = col(Batch.status).not_in(list(states.AT_REST))
    return sqlalchemy.exists().where(col(Batch.input_file_id) == File.id, running)


def visible() -> ColumnElement[bool]:
    return sqlalchemy.and_(
        col(File.deleted_at).is_(None),
        sqlalchemy.or_(col(File.expires_at).is_(None), col(File.expires_at) > clock.now()),
    )
