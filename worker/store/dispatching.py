"""What the dispatcher reads and writes: running batches, their ready slices, and what is outside SQL already."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, insert, not_, or_, select, update
from sqlmodel import Session

from worker import clock, tables
from worker.states import BatchStatus, JobState, Kind, SliceState
from worker.store import purses, slices
from worker.store.slices import lock_batches, locked
from worker.tables import BATCH, JOB, SLICE, TALLY

HELD_AT_ONCE = 500
"""Jobs that one statement looks for."""
REPEAT_SECONDS, MOST_DOUBLINGS = 10.0, 5
"""A published slice that nobody claims is rung again after this, then after twice as long, up to five minutes."""

_IN_FILES = BATCH.c.kind.in_([kind for kind in Kind if kind is not Kind.HELD])
_OPEN = and_(BATCH.c.status == BatchStatus.IN_PROGRESS, BATCH.c.stop.is_(None))


def running(session: Session) -> Sequence[Any]:
    """Batches whose lines may start, most urgent first; held jobs have a way of their own."""
    statement = (
        select(
            BATCH.c.number,
            BATCH.c.id,
            BATCH.c.owner,
            BATCH.c.priority,
            BATCH.c.line_limit,
            BATCH.c.allow_fallback,
            purses.needs_prices().label("is_limited"),
        )
        .where(BATCH.c.status == BatchStatus.IN_PROGRESS, _IN_FILES, BATCH.c.open > 0, *_startable())
        .order_by(BATCH.c.priority.desc(), BATCH.c.number)
    )
    return session.connection().execute(statement).all()


def unfinished_routes(session: Session, numbers: Collection[int]) -> dict[int, list[str]]:
    """Routes of each batch that have open lines and do not pause."""
    statement = select(TALLY.c.batch, TALLY.c.route).where(
        TALLY.c.batch.in_(numbers), TALLY.c.paused_at.is_(None), TALLY.c.lines > TALLY.c.completed + TALLY.c.failed
    )
    routes: dict[int, list[str]] = {}
    for batch, route in session.connection().execute(statement):
        routes.setdefault(batch, []).append(route)
    return routes


def detours(session: Session, numbers: Collection[int]) -> dict[int, list[tuple[str, str]]]:
    """(route, trail) of the ready slices of each batch that go on with a fallback."""
    statement = (
        select(SLICE.c.batch, SLICE.c.route, SLICE.c.trail)
        .where(SLICE.c.state == SliceState.READY, SLICE.c.batch.in_(numbers), SLICE.c.trail != "")
        .distinct()
    )
    found: dict[int, list[tuple[str, str]]] = {}
    for batch, route, trail in session.connection().execute(statement):
        found.setdefault(batch, []).append((route, trail))
    return found


def outside(session: Session) -> Sequence[Any]:
    """(provider, batch, route, slices, open jobs) of what is published or leased, held jobs apart."""
    statement = (
        select(
            SLICE.c.provider,
            SLICE.c.batch,
            SLICE.c.route,
            func.count().label("slices"),
            func.sum(SLICE.c.open).label("open"),
        )
        .where(SLICE.c.state.in_((SliceState.PUBLISHED, SliceState.LEASED)), SLICE.c.provider.is_not(None))
        .group_by(SLICE.c.provider, SLICE.c.batch, SLICE.c.route)
    )
    return session.connection().execute(statement).all()


def ready(
    session: Session, batch: int, lanes: Collection[tuple[str, str]], line_limit: int | None, limit: int
) -> Sequence[Any]:
    """(id, route, trail, open, suspected, first_line) of slices that may be published now, in input order.

    A lane is a route with a trail.
    """
    suspected = not_(and_(*_unsuspected())).label("suspected")
    statement = select(SLICE.c.id, SLICE.c.route, SLICE.c.trail, SLICE.c.open, suspected, SLICE.c.first_line).where(
        SLICE.c.state == SliceState.READY,
        SLICE.c.batch == batch,
        _in(lanes),
        or_(SLICE.c.not_before.is_(None), SLICE.c.not_before <= clock.now()),
    )
    if line_limit is not None:
        statement = statement.where(SLICE.c.first_line <= line_limit)
    return session.connection().execute(statement.order_by(SLICE.c.first_line).limit(limit)).all()


def _in(lanes: Collection[tuple[str, str]]) -> ColumnElement[bool]:
    """Without trails, which is nearly always, the index by route finds them in order."""
    if not any(trail for _, trail in lanes):
        return and_(SLICE.c.route.in_([route for route, _ in lanes]), SLICE.c.trail == "")
    return or_(*(and_(SLICE.c.route == route, SLICE.c.trail == trail) for route, trail in lanes))


def held(session: Session) -> Sequence[Any]:
    """(id, batch, route, trail, allow_fallback, is_limited, due) of the ready slices of held jobs, oldest first."""
    connection = session.connection()
    waiting = select(BATCH.c.number).where(
        BATCH.c.status == BatchStatus.IN_PROGRESS, BATCH.c.kind == Kind.HELD, *_startable()
    )
    numbers = connection.execute(waiting).scalars().all()
    due = or_(SLICE.c.not_before.is_(None), SLICE.c.not_before <= clock.now()).label("due")
    rows: list[Any] = []
    for start in range(0, len(numbers), HELD_AT_ONCE):
        some = SLICE.c.batch.in_(numbers[start : start + HELD_AT_ONCE])
        wanted = (SLICE.c.id, SLICE.c.batch, SLICE.c.route, SLICE.c.trail, BATCH.c.allow_fallback)
        ready = (
            select(*wanted, purses.needs_prices().label("is_limited"), due)
            .join(BATCH, BATCH.c.number == SLICE.c.batch)
            .where(some, SLICE.c.state == SliceState.READY)
        )
        rows += connection.execute(ready.order_by(SLICE.c.batch)).all()
    return rows


def unheard(session: Session) -> Sequence[int]:
    """Published slices that nobody claimed in time."""
    doublings = case((SLICE.c.published <= MOST_DOUBLINGS, SLICE.c.published - 1), else_=MOST_DOUBLINGS)
    late = SLICE.c.published_at < clock.now() - REPEAT_SECONDS * func.pow(2.0, doublings)
    statement = select(SLICE.c.id).where(SLICE.c.state == SliceState.PUBLISHED, late).limit(200)
    return session.connection().execute(statement).scalars().all()


def ring_again(session: Session, ids: Collection[int]) -> Sequence[Any]:
    """Note that these published slices are rung once more; (slice, epoch, provider, batch id, open) of each.

    ``provider`` is None if the slice is a held job's.
    """
    session.connection().execute(
        update(SLICE)
        .where(SLICE.c.id.in_(ids), SLICE.c.state == SliceState.PUBLISHED)
        .values(published=SLICE.c.published + 1, published_at=clock.now())
    )
    statement = (
        select(SLICE.c.id, SLICE.c.epoch, SLICE.c.provider, SLICE.c.open, BATCH.c.id.label("batch_id"))
        .join(BATCH, BATCH.c.number == SLICE.c.batch)
        .where(SLICE.c.id.in_(ids), SLICE.c.state == SliceState.PUBLISHED)
    )
    return session.connection().execute(statement).all()


def merge(session: Session, batch: int, ids: Sequence[int]) -> None:
    """Regroup the pending jobs of small ready slices into one retry slice. Suspects of a crash stay apart."""
    lock_batches(session, [batch])
    connection = session.connection()
    rows = connection.execute(
        locked(
            session,
            select(SLICE)
            .where(SLICE.c.id.in_(ids), SLICE.c.state == SliceState.READY, *_unsuspected())
            .order_by(SLICE.c.id),
        )
    ).all()
    if len(rows) < 2 or len({(row.route, row.trail) for row in rows}) > 1:
        return
    old = [row.id for row in rows]
    mine = and_(JOB.c.slice.in_(old), JOB.c.state == JobState.PENDING)
    first_job = connection.execute(select(func.min(JOB.c.id)).where(mine)).scalar_one()
    values = slices.fresh(
        owner=rows[0].owner,
        batch=batch,
        generation=rows[0].generation,
        route=rows[0].route,
        trail=rows[0].trail,
        first_line=tables.job_line(first_job),
        jobs=sum(row.open for row in rows),
        tokens=sum(row.tokens * row.open // max(1, row.jobs) for row in rows),
    )
    new = connection.execute(insert(SLICE).values(values).returning(SLICE.c.id)).scalar_one()
    connection.execute(update(JOB).where(mine).values(slice=new))
    connection.execute(update(SLICE).where(SLICE.c.id.in_(old)).values(state=SliceState.DONE, open=0))


def blocked(session: Session) -> set[int]:
    """Open batches that are marked as blocked."""
    statement = select(BATCH.c.number).where(_OPEN, BATCH.c.blocked_since.is_not(None))
    return set(session.connection().execute(statement).scalars())


def mark_blocked(session: Session, blocked: Collection[int]) -> None:
    """Start and end the time in which a batch could not go on; it is added to the batch's window."""
    connection = session.connection()
    connection.execute(
        update(BATCH)
        .where(_OPEN, BATCH.c.blocked_since.is_(None), BATCH.c.number.in_(blocked))
        .values(blocked_since=clock.now())
    )
    connection.execute(
        update(BATCH)
        .where(_OPEN, BATCH.c.blocked_since.is_not(None), BATCH.c.number.not_in(blocked))
        .values(blocked_since=None, expires_at=BATCH.c.expires_at + (clock.now() - BATCH.c.blocked_since))
    )


def idle(session: Session) -> Sequence[int]:
    """Open batches of which nothing is outside SQL: they are blocked if nothing of them may be published.

    Held jobs are not among them.
    """
    busy = select(SLICE.c.batch).where(SLICE.c.state.in_((SliceState.PUBLISHED, SliceState.LEASED)))
    statement = select(BATCH.c.number).where(_OPEN, _IN_FILES, BATCH.c.open > 0, BATCH.c.number.not_in(busy))
    return session.connection().execute(statement).scalars().all()


def _unsuspected() -> tuple[ColumnElement[bool], ...]:
    """What was taken apart to find the line that kills its worker must not be put together again."""
    return SLICE.c.alone.is_(False), SLICE.c.crashes == 0


def _startable() -> tuple[ColumnElement[bool], ...]:
    in_budget = or_(BATCH.c.over_budget_until.is_(None), BATCH.c.over_budget_until <= clock.now())
    return (BATCH.c.stop.is_(None), BATCH.c.paused_at.is_(None), BATCH.c.capped_at.is_(None), in_budget)
