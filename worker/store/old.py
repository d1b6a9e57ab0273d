"""What is older than somebody wants it: found, counted, and deleted a portion at a time. Of all owners."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, func, select, update
from sqlmodel import Session, col
from sqlmodel import select as select_model

from worker import clock, states
from worker.states import BatchStatus, Kind
from worker.store import batches, deletion, expiry, files, listing
from worker.tables import BATCH, FILE, Batch

SUBMITTED, HELD, ALL = (Kind.BATCH, Kind.MESSAGES), (Kind.HELD,), tuple(Kind)

LOOKED_AT, FILES = 50, 500
"""Of one kind and status, and files: in one transaction."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """How many, and their bytes; ``lines`` of batches only."""

    count: int
    bytes: int
    lines: int = 0


def count_batches(session: Session, kinds: Sequence[Kind], age: float) -> Found:
    """``bytes`` are those of the answers."""
    size = func.coalesce(func.sum(BATCH.c.output_bytes + BATCH.c.error_bytes), 0)
    statement = select(func.count(), func.coalesce(func.sum(BATCH.c.total), 0), size).select_from(BATCH)
    row = session.connection().execute(statement.where(*_ended(kinds, age))).one()
    return Found(count=row[0], lines=int(row[1]), bytes=int(row[2]))


def count_files(session: Session, age: float) -> Found:
    statement = select(func.count(), func.coalesce(func.sum(FILE.c.bytes), 0)).select_from(FILE)
    row = session.connection().execute(statement.where(*_unneeded(age))).one()
    return Found(count=row[0], bytes=int(row[1]))


def delete_batches(session: Session, kinds: Sequence[Kind], age: float) -> int:
    """Hide some batches at rest that ended so many seconds ago; how many."""
    return sum(_delete(session, kind, status, age) for kind in kinds for status in states.AT_REST)


def _delete(session: Session, kind: Kind, status: BatchStatus, age: float) -> int:
    """Of held jobs, the first are looked at only: they ended much in the order of their numbers, and may be millions.

    Others may have ended late, or been retried: those behind them are not to wait.
    """
    mine = select_model(Batch).where(Batch.kind == kind, Batch.status == status, batches.visible())
    if kind is not Kind.HELD:
        mine = mine.where(expiry.ended() <= clock.now() - age)
    first = session.exec(mine.order_by(col(Batch.number)).limit(LOOKED_AT).with_for_update(skip_locked=True)).all()
    now = float(session.connection().execute(select(clock.now())).scalar_one())
    ended = [batch for batch in first if (listing.ended_at(batch) or now) <= now - age]
    for batch in ended:
        deletion.hide(session, batch)
    return len(ended)


def delete_files(session: Session, age: float) -> int:
    """Hide some uploads of so many seconds ago that no batch needs; how many."""
    some = select(FILE.c.id).where(*_unneeded(age)).limit(FILES)
    change = update(FILE).where(FILE.c.id.in_(some), FILE.c.deleted_at.is_(None)).values(deleted_at=clock.now())
    return session.connection().execute(change).rowcount


def _ended(kinds: Sequence[Kind], age: float) -> tuple[ColumnElement[bool], ...]:
    return batches.visible(), BATCH.c.kind.in_(kinds), expiry.ended() <= clock.now() - age


def _unneeded(age: float) -> tuple[Any, ...]:
    return files.visible(), FILE.c.created_at <= clock.now() - age, ~files.needed()
