"""When running batches will be done, as the leader expects it; and what it expects it from."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import delete, or_, select
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlmodel import Session

from worker import clock
from worker.states import BatchStatus, Kind
from worker.tables import BATCH, ETA, TALLY

FRESH_SECONDS = 60.0
"""Without a leader nobody knows."""


def now(session: Session) -> float:
    return float(session.connection().execute(select(clock.now())).scalar_one())


def running(session: Session) -> Sequence[Any]:
    """Each model of each batch in progress: what is done of it, what that used, and whether it waits. No held jobs."""
    over_budget = BATCH.c.over_budget_until > clock.now()
    waits = or_(BATCH.c.paused_at.is_not(None), BATCH.c.capped_at.is_not(None), over_budget)
    statement = (
        select(
            TALLY.c.batch,
            TALLY.c.route,
            TALLY.c.lines,
            (TALLY.c.completed + TALLY.c.failed).label("done"),
            TALLY.c.input_tokens,
            TALLY.c.output_tokens,
            TALLY.c.estimated_input_tokens,
            TALLY.c.estimated_output_tokens,
            (waits | TALLY.c.paused_at.is_not(None)).label("waits"),
            BATCH.c.owner,
            BATCH.c.priority,
            BATCH.c.line_limit,
            BATCH.c.total,
        )
        .join(BATCH, BATCH.c.number == TALLY.c.batch)
        .where(BATCH.c.status == BatchStatus.IN_PROGRESS, BATCH.c.kind != Kind.HELD, BATCH.c.stop.is_(None))
        .order_by(TALLY.c.batch, TALLY.c.route)
    )
    return session.connection().execute(statement).all()


def stored(session: Session) -> dict[int, float]:
    """``done_at`` by batch."""
    statement = select(ETA.c.batch, ETA.c.done_at)
    return {row.batch: row.done_at for row in session.connection().execute(statement)}


def fresh(session: Session, numbers: Sequence[int]) -> dict[int, Any]:
    """(batch, done_at, seconds_left) by batch, as far as somebody still looks after it."""
    left = (ETA.c.done_at - clock.now()).label("seconds_left")
    statement = select(ETA.c.batch, ETA.c.done_at, left).where(
        ETA.c.batch.in_(numbers), ETA.c.made_at > clock.now() - FRESH_SECONDS
    )
    return {row.batch: row for row in session.connection().execute(statement)}


def store(session: Session, done_at: Mapping[int, tuple[str, float]], gone: Sequence[int]) -> None:
    """By batch its owner and the moment; nothing is known any more of those that are ``gone``."""
    connection = session.connection()
    if gone:
        connection.execute(delete(ETA).where(ETA.c.batch.in_(gone)))
    if not done_at:
        return
    made_at = now(session)
    insert = sqlite_insert(ETA) if connection.dialect.name == "sqlite" else postgres_insert(ETA)
    values = {"done_at": insert.excluded.done_at, "made_at": insert.excluded.made_at}
    rows = [
        {"batch": batch, "owner": owner, "done_at": moment, "made_at": made_at}
        for batch, (owner, moment) in sorted(done_at.items())
    ]
    connection.execute(insert.on_conflict_do_update(index_elements=["batch"], set_=values), rows)
