"""How batches stand, for the workers that have slices of them."""

from collections.abc import Collection

from sqlalchemy import select
from sqlmodel import Session

from worker import clock
from worker.states import BatchStatus
from worker.store.calls import BatchView
from worker.tables import BATCH


def views(session: Session, numbers: Collection[int]) -> dict[int, BatchView]:
    over_budget = (BATCH.c.over_budget_until > clock.now()).label("over_budget")
    statement = select(
        BATCH.c.number, BATCH.c.status, BATCH.c.stop, BATCH.c.paused_at, BATCH.c.capped_at, over_budget
    ).where(BATCH.c.number.in_(numbers))
    return {
        row.number: BatchView(
            stop=row.stop is not None or row.status != BatchStatus.IN_PROGRESS,
            held=row.paused_at is not None or row.capped_at is not None or bool(row.over_budget),
        )
        for row in session.connection().execute(statement)
    }
