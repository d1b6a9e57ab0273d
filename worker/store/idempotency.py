"""Creates that are sent twice happen once: the row of the key is written in the transaction that creates.

IdempotencyError
 └ KeyReused
"""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import delete, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session

from worker import clock
from worker.database import Database
from worker.tables import IDEMPOTENCY

KEPT_SECONDS = 86_400.0
ROWS = 1_000
"""Forgotten in one transaction."""

_OLD = IDEMPOTENCY.c.created_at < clock.now() - KEPT_SECONDS


class IdempotencyError(Exception):
    """The key cannot be used."""


class KeyReused(IdempotencyError):
    """The key was used before with another request."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """A request with a key. ``fingerprint`` is equal for equal requests and for no others."""

    owner: str
    key: str
    fingerprint: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """``is_new``: given now, not when the key was first used."""

    body: bytes
    status: int = 200
    is_new: bool = True


def once(session: Session, said: Said, execute: Callable[[], Answer]) -> Answer:
    """What ``execute`` answers, or answered when the key was used first. Raises KeyReused or what it raises.

    A twin waits here until the first one has committed; if that one fails, nothing of it stays and the twin executes.
    """
    connection = session.connection()
    mine = (IDEMPOTENCY.c.owner == said.owner, IDEMPOTENCY.c.key == said.key)
    connection.execute(delete(IDEMPOTENCY).where(*mine, _OLD))
    while not _take(session, said):
        first = connection.execute(select(IDEMPOTENCY).where(*mine)).one_or_none()
        if first is None:  # forgotten in between
            continue
        if first.fingerprint != said.fingerprint:
            raise KeyReused
        return Answer(body=first.answer, status=first.status, is_new=False)
    answer = execute()
    connection.execute(update(IDEMPOTENCY).where(*mine).values(status=answer.status, answer=answer.body))
    return answer


def sweep(database: Database) -> int:
    """Forget keys that were used long ago; returns how many."""
    count = 0
    while forgotten := database.write(_forget):
        count += forgotten
    return count


def _take(session: Session, said: Said) -> bool:
    connection = session.connection()
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    values = {"owner": said.owner, "key": said.key, "fingerprint": said.fingerprint}
    statement = insert(IDEMPOTENCY).values(**values, status=0, answer=b"", created_at=clock.now())
    taken = statement.on_conflict_do_nothing().returning(IDEMPOTENCY.c.key)
    return connection.execute(taken).first() is not None


def _forget(session: Session) -> int:
    key = (IDEMPOTENCY.c.owner, IDEMPOTENCY.c.key)
    old = select(*key).where(_OLD).limit(ROWS)
    return session.connection().execute(delete(IDEMPOTENCY).where(tuple_(*key).in_(old))).rowcount
