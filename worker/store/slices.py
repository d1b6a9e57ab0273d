"""Slices: publish, claim, renew, release. Every move is one guarded UPDATE by the database's clock."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, select, update
from sqlmodel import Session

from worker import clock, tables
from worker.routing import trail as trails
from worker.states import JobState, Kind, SliceState
from worker.store import purses
from worker.tables import BATCH, JOB, SLICE, TALLY


@dataclass(frozen=True, kw_only=True, slots=True)
class ClaimedJob:
    """One pending line as the engine needs it; ``wait`` seconds must pass before it may be called."""

    id: int
    custom_id: str | None
    endpoint: str
    generation: int
    offset: int
    length: int
    model_offset: int
    model_length: int
    input_tokens: int
    output_tokens: int
    attempts: int
    wait: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """A leased slice with its pending jobs, in input order. ``kind`` is the batch's."""

    slice: int
    epoch: int
    owner: str
    batch: int
    batch_id: str
    route: str
    alone: bool
    priority: int = 0
    answered: int = 0
    """Calls for this route that its batch has made before."""
    input_file_id: str
    input_price: int | None
    output_price: int | None
    jobs: tuple[ClaimedJob, ...]
    kind: str = Kind.BATCH
    body: bytes | None = None
    """Of a held job whose request is short."""
    provider: str | None = None
    """Whose queue it came through; None: anybody's, for a held job."""
    trail: str = ""
    allow_fallback: bool = False
    is_limited: bool = False
    """Whether a call of unknown price may not begin."""

    @property
    def serving(self) -> str:
        """The route that is called now; ``route`` is what was asked for."""
        return trails.serving(self.route, self.trail)


def fresh(
    *,
    owner: str,
    batch: int | None,
    generation: int,
    route: str,
    first_line: int,
    jobs: int,
    tokens: int,
    trail: str = "",
) -> dict[str, Any]:
    """Values of a new slice whose jobs are all pending."""
    return {
        "owner": owner,
        "batch": batch,
        "generation": generation,
        "route": route,
        "trail": trail,
        "state": SliceState.READY,
        "first_line": first_line,
        "jobs": jobs,
        "open": jobs,
        "tokens": tokens,
        "epoch": 0,
        "published": 0,
        "started": "",
        "reserved": 0,
        "crashes": 0,
        "alone": False,
    }


def publish(session: Session, slice: int, provider: str | None, trail: str | None = None) -> int | None:
    """Mark a ready slice as having a message; its epoch goes into the message. None if it is ready no more.

    Slices of held jobs belong to no ``provider``'s queue. With a ``trail`` its jobs go on with a fallback.
    """
    moved = {} if trail is None else {"trail": trail}
    statement = (
        update(SLICE)
        .where(SLICE.c.id == slice, SLICE.c.state == SliceState.READY)
        .values(state=SliceState.PUBLISHED, provider=provider, published_at=clock.now(), published=1, **moved)
        .returning(SLICE.c.epoch)
    )
    return session.connection().execute(statement).scalar_one_or_none()


def distrust_messages(session: Session) -> None:
    """A process has ended, and messages with it: every published slice rings again now. Spare ones claim nothing."""
    session.connection().execute(
        update(SLICE).where(SLICE.c.state == SliceState.PUBLISHED).values(published=1, published_at=0.0)
    )


def claim(session: Session, slice: int, epoch: int, holder: str, lease_seconds: float) -> Claim | None:
    """Take the lease if nobody has it. None means that another has, or had: the message was a repeated one."""
    connection = session.connection()
    taken = connection.execute(
        update(SLICE)
        .where(
            SLICE.c.id == slice,
            SLICE.c.epoch == epoch,
            SLICE.c.state.in_((SliceState.READY, SliceState.PUBLISHED)),
        )
        .values(
            state=SliceState.LEASED,
            epoch=SLICE.c.epoch + 1,
            lease_owner=holder,
            lease_until=clock.now() + lease_seconds,
            not_before=None,
            started="",
        )
        .returning(*(SLICE.c[name] for name in ("batch", "route", "owner", "alone", "epoch", "provider", "trail")))
    ).one_or_none()
    if taken is None:
        return None
    batch = connection.execute(
        select(
            BATCH.c.id,
            BATCH.c.kind,
            BATCH.c.input_file_id,
            BATCH.c.line_limit,
            BATCH.c.priority,
            BATCH.c.allow_fallback,
            purses.needs_prices().label("is_limited"),
        ).where(BATCH.c.number == taken.batch)
    ).one()
    prices = connection.execute(
        select(TALLY.c.input_price, TALLY.c.output_price, (TALLY.c.completed + TALLY.c.failed).label("answered")).where(
            TALLY.c.batch == taken.batch, TALLY.c.route == taken.route
        )
    ).one()
    jobs = _pending(session, slice, taken.batch, batch.line_limit)
    return Claim(
        slice=slice,
        epoch=taken.epoch,
        owner=taken.owner,
        batch=taken.batch,
        batch_id=batch.id,
        kind=batch.kind,
        route=taken.route,
        alone=taken.alone,
        priority=batch.priority,
        answered=prices.answered,
        input_file_id=batch.input_file_id,
        input_price=prices.input_price,
        output_price=prices.output_price,
        jobs=jobs,
        provider=taken.provider,
        trail=taken.trail,
        allow_fallback=batch.allow_fallback,
        is_limited=bool(batch.is_limited),
    )


def _pending(session: Session, slice: int, batch: int, line_limit: int | None) -> tuple[ClaimedJob, ...]:
    statement = select(
        JOB.c.id,
        JOB.c.custom_id,
        JOB.c.endpoint,
        JOB.c.generation,
        JOB.c.offset,
        JOB.c.length,
        JOB.c.model_offset,
        JOB.c.model_length,
        JOB.c.input_tokens,
        JOB.c.output_tokens,
        JOB.c.attempts,
        JOB.c.not_before,
        clock.now().label("now"),
    ).where(JOB.c.slice == slice, JOB.c.state == JobState.PENDING)
    if line_limit is not None:
        statement = statement.where(JOB.c.id <= tables.job_id(batch, line_limit))
    rows = session.connection().execute(statement.order_by(JOB.c.id)).all()
    return tuple(
        ClaimedJob(
            id=row.id,
            custom_id=row.custom_id,
            endpoint=row.endpoint,
            generation=row.generation,
            offset=row.offset,
            length=row.length,
            model_offset=row.model_offset,
            model_length=row.model_length,
            input_tokens=row.input_tokens,
            output_tokens=row.output_tokens,
            attempts=row.attempts,
            wait=max(0.0, row.not_before - row.now) if row.not_before else 0.0,
        )
        for row in rows
    )


def renew(session: Session, holder: str, lease_seconds: float, running: Collection[int]) -> set[tuple[int, int]]:
    """Renew a process's leases of the slices that it runs; (slice, epoch) of those that it still has.

    A claim whose commit was taken for lost belongs to nobody's run: its lease must end by itself.
    """
    connection = session.connection()
    mine = select(SLICE.c.id).where(
        SLICE.c.state == SliceState.LEASED, SLICE.c.lease_owner == holder, SLICE.c.id.in_(running)
    )
    if connection.dialect.name == "postgresql":
        mine = mine.order_by(SLICE.c.id).with_for_update()
    ids = connection.execute(mine).scalars().all()
    if not ids:
        return set()
    statement = (
        update(SLICE)
        .where(SLICE.c.id.in_(ids), SLICE.c.lease_owner == holder, SLICE.c.state == SliceState.LEASED)
        .values(lease_until=clock.now() + lease_seconds)
        .returning(SLICE.c.id, SLICE.c.epoch)
    )
    return {(row.id, row.epoch) for row in connection.execute(statement)}


def release(
    session: Session, slice: int, epoch: int, *, wait: float | None, waits: Sequence[tuple[int, float, int]] = ()
) -> bool:
    """Give a slice back with its pending jobs. ``waits``: (job, seconds until it may be called, failed attempts)."""
    connection = session.connection()
    batch = connection.execute(select(SLICE.c.batch).where(SLICE.c.id == slice)).scalar_one_or_none()
    if batch is None:  # the lease was lost, and the batch has ended and was deleted since
        return False
    lock_batches(session, [batch])
    row = connection.execute(
        locked(session, select(SLICE.c.epoch, SLICE.c.state, SLICE.c.reserved).where(SLICE.c.id == slice))
    ).one()
    if (row.epoch, row.state) != (epoch, SliceState.LEASED):
        return False
    _note_waits(session, waits)
    put_back(session, slice, wait=wait)
    return True


def put_back(session: Session, slice: int, *, wait: float | None = None) -> None:
    """Make a slice ready again (done, if nothing of it is pending) and drop what it had reserved. The caller locks."""
    connection = session.connection()
    row = connection.execute(select(SLICE.c.batch, SLICE.c.reserved).where(SLICE.c.id == slice)).one()
    if row.reserved:
        statement = update(BATCH).where(BATCH.c.number == row.batch).values(reserved=BATCH.c.reserved - row.reserved)
        key = connection.execute(statement.returning(BATCH.c.api_key)).scalar_one()
        if key is not None:
            purses.give_back(connection, key, row.reserved)
    first = connection.execute(
        select(JOB.c.id).where(JOB.c.slice == slice, JOB.c.state == JobState.PENDING).order_by(JOB.c.id).limit(1)
    ).scalar_one_or_none()
    values: dict[str, Any] = {"lease_owner": None, "lease_until": None, "started": "", "reserved": 0, "published": 0}
    if first is None:
        values |= {"state": SliceState.DONE, "open": 0, "not_before": None}
    else:
        values |= {
            "state": SliceState.READY,
            "first_line": tables.job_line(first),
            "not_before": None if wait is None else clock.now() + wait,
        }
    connection.execute(update(SLICE).where(SLICE.c.id == slice).values(**values))


def lock_batches(session: Session, numbers: Sequence[int]) -> None:
    """The first lock of every transaction that changes jobs: per batch, writers come one after another."""
    if session.connection().dialect.name == "postgresql":
        session.connection().execute(
            select(BATCH.c.number).where(BATCH.c.number.in_(sorted(numbers))).order_by(BATCH.c.number).with_for_update()
        ).all()


def locked(session: Session, statement: Any) -> Any:
    """The statement with the locks that SQLite, with its one writer, does not need."""
    return statement.with_for_update() if session.connection().dialect.name == "postgresql" else statement


def _note_waits(session: Session, waits: Sequence[tuple[int, float, int]]) -> None:
    if waits:
        session.connection().execute(
            update(JOB)
            .where(JOB.c.id == bindparam("job"), JOB.c.state == JobState.PENDING)
            .values(not_before=clock.now() + bindparam("seconds"), attempts=bindparam("failed_attempts")),
            [{"job": job, "seconds": seconds, "failed_attempts": attempts} for job, seconds, attempts in waits],
        )
