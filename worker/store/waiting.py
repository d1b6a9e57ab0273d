"""Which batches have lines to be called, and what they ask for."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlmodel import Session

from worker.states import BatchStatus, Kind
from worker.tables import BATCH, TALLY


def routes(session: Session, *, owner: str | None) -> Sequence[Any]:
    """(id, route) of running batches, of everybody if no owner is named; not of held jobs."""
    statement = (
        select(BATCH.c.id, TALLY.c.route)
        .join(TALLY, TALLY.c.batch == BATCH.c.number)
        .where(
            BATCH.c.status == BatchStatus.IN_PROGRESS,
            BATCH.c.kind != Kind.HELD,
            BATCH.c.open > 0,
            TALLY.c.lines > TALLY.c.completed + TALLY.c.failed,
        )
        .order_by(BATCH.c.number, TALLY.c.route)
    )
    if owner is not None:
        statement = statement.where(BATCH.c.owner == owner)
    return session.connection().execute(statement).all()
