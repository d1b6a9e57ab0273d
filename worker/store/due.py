"""Batches that are due: whatever should have happened to them by now is done, or rung, again.

Every change names the ``due_at`` that was seen, and changes nothing where somebody has made the batch due anew.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import case, func, select, update
from sqlmodel import Session

from worker import clock
from worker.tables import BATCH

RECHECK_SECONDS = 60.0
FIRST_RING, MOST_DOUBLINGS = 2.0, 6


def batches(session: Session) -> Sequence[Any]:
    """(number, status, stop, open, expired, due_at) of what is due, the longest overdue first."""
    late = (BATCH.c.expires_at <= clock.now()).label("late")
    statement = (
        select(BATCH.c.number, BATCH.c.status, BATCH.c.stop, BATCH.c.open, late, BATCH.c.due_at)
        .where(BATCH.c.due_at <= clock.now(), BATCH.c.deleted_at.is_(None))
        .order_by(BATCH.c.due_at)
        .limit(100)
    )
    return session.connection().execute(statement).all()


def rest(session: Session, number: int, seen: float | None) -> None:
    """Nothing more is to be done for this batch."""
    _change(session, number, seen, due_at=None, due_tries=0)


def again(session: Session, number: int, seen: float | None, seconds: float) -> None:
    _change(session, number, seen, due_at=clock.now() + seconds, due_tries=0)


def ring_later(session: Session, number: int, seen: float | None) -> None:
    """Due again after a wait that doubles with every try, up to about two minutes."""
    doublings = case((BATCH.c.due_tries < MOST_DOUBLINGS, BATCH.c.due_tries), else_=MOST_DOUBLINGS)
    wait = FIRST_RING * func.pow(2.0, doublings)
    _change(session, number, seen, due_at=clock.now() + wait, due_tries=BATCH.c.due_tries + 1)


def recheck(session: Session, number: int, seen: float | None) -> None:
    """A running batch is looked at when its window ends, and once a minute in any case."""
    row = (
        session.connection()
        .execute(select((BATCH.c.expires_at - clock.now()).label("left")).where(BATCH.c.number == number))
        .one()
    )
    wait = RECHECK_SECONDS if row.left is None or row.left <= 0 else min(RECHECK_SECONDS, row.left)
    again(session, number, seen, wait)


def _change(session: Session, number: int, seen: float | None, **values: Any) -> None:
    still = BATCH.c.due_at.is_not_distinct_from(seen)
    session.connection().execute(update(BATCH).where(BATCH.c.number == number, still).values(**values))
