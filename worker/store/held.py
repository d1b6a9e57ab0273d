"""Held jobs: requests that came inline, each a batch of one line that is in progress from its first moment."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy
from sqlalchemy import Table, insert, select, update
from sqlmodel import Session, SQLModel, col
from sqlmodel import select as select_model

from worker import clock, ids, tables
from worker.database import executemany
from worker.owner import is_dead
from worker.states import BatchStatus, JobState, Kind, SliceState
from worker.store import batches, due, held_budgets, intake, slices
from worker.store.held_budgets import Asked, Terms
from worker.store.intake import NewJob
from worker.store.recording_rows import select_in
from worker.tables import ATTEMPT, BATCH, JOB, REQUEST_BODY, SLICE, TALLY, Batch

LINE = 1
"""The one line of a held job."""


def _blank(model: type[SQLModel], table: Table) -> dict[str, Any]:
    """A row of which nothing is said yet. An object of the ORM would cost as much as all the rest of a create."""
    fields = {name: field for name, field in model.model_fields.items() if name in table.c and not field.is_required()}
    return {name: field.get_default(call_default_factory=True, validated_data={}) for name, field in fields.items()}


_BLANK_BATCH, _BLANK_TALLY = _blank(Batch, BATCH), _blank(tables.Tally, TALLY)
del _BLANK_BATCH["number"]


@dataclass(frozen=True, kw_only=True, slots=True)
class NewHeld:
    """A checked request. ``prices`` are estimates in pico-USD a token; ``holder`` is the process whose client waits."""

    owner: str
    api_key: str | None
    url: str
    body: bytes | bytearray
    job: NewJob
    prices: tuple[int | None, int | None]
    fingerprint: str
    window: str
    window_seconds: float | None
    metadata: dict[str, str]
    priority: int = 0
    max_cost: int | None = None
    allow_unknown_cost: bool = False
    allow_fallback: bool = False
    holder: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """A held job that was created or found; ``slice`` is to be rung for if it is new."""

    number: int
    id: str
    slice: int | None = None

    @property
    def job(self) -> int:
        return tables.job_id(self.number, LINE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What is known of a held job; ``answer`` is its result's line, if it was asked for and there is one."""

    batch: Batch
    route: str
    custom_id: str | None
    state: JobState
    started: bool
    served_model: str | None
    answer: bytes | None


def create(session: Session, news: Sequence[NewHeld]) -> list[Held]:
    """Everything that their execution needs, as if a message for each were in the broker already.

    Raises batches.BudgetSpent, TooDear or UnknownCost.
    """
    terms = held_budgets.terms(session, [_asked(new) for new in news])
    now = float(session.connection().execute(select(clock.now())).scalar_one())
    connection = session.connection()
    rows = [_batch(new, term, now) for new, term in zip(news, terms, strict=True)]
    numbered = insert(BATCH).returning(BATCH.c.number, sort_by_parameter_order=True)
    numbers = connection.execute(numbered, rows).scalars().all()
    connection.execute(insert(TALLY), [_tally(number, new) for number, new in zip(numbers, news, strict=True)])
    returning = insert(SLICE).returning(SLICE.c.id, sort_by_parameter_order=True)
    made = connection.execute(returning, [_slice(number, new, now) for number, new in zip(numbers, news, strict=True)])
    taken = made.scalars().all()
    executemany(
        connection,
        f"INSERT INTO job ({intake.JOB_COLUMNS}) VALUES ({','.join('?' * 15)})",
        [_job(number, slice, new) for number, slice, new in zip(numbers, taken, news, strict=True)],
    )
    executemany(
        connection,
        "INSERT INTO request_body (batch, owner, holder, body) VALUES (?,?,?,?)",
        [(number, new.owner, new.holder, new.body) for number, new in zip(numbers, news, strict=True)],
    )
    return [
        Held(number=number, id=row["id"], slice=slice) for number, row, slice in zip(numbers, rows, taken, strict=True)
    ]


def answers(session: Session, jobs: Collection[int]) -> dict[int, bytes]:
    """The lines of those jobs that have their result."""
    rows = select_in(session.connection(), "SELECT job, line FROM result WHERE superseded_in IS NULL AND job", jobs)
    return {job: bytes(line) for job, line in rows}


def body(session: Session, number: int) -> bytes | None:
    """The request of a held job."""
    found = session.connection().execute(select(REQUEST_BODY.c.body).where(REQUEST_BODY.c.batch == number))
    return found.scalar_one_or_none()


def find(session: Session, owner: str, id: str) -> Held | None:
    if not ids.is_job(id):
        return None
    row = session.connection().execute(select(BATCH.c.number).where(*_is(owner, id))).first()
    return None if row is None else Held(number=row.number, id=id)


def forsaken(session: Session, owner: str, fingerprint: str, holder: str) -> Held | None:
    """An equal job of the last ten minutes whose client went away without the answer; from now on it is ``holder``'s.

    A job that somebody still waits for is never it: an evaluation may send equal requests on purpose.
    """
    wanted = select(BATCH.c.number, BATCH.c.id, REQUEST_BODY.c.holder, REQUEST_BODY.c.abandoned_at).where(
        BATCH.c.owner == owner,
        BATCH.c.fingerprint == fingerprint,
        BATCH.c.kind == Kind.HELD,
        BATCH.c.deleted_at.is_(None),
        BATCH.c.created_at > clock.now() - batches.RESENT_WITHIN,
        REQUEST_BODY.c.batch == BATCH.c.number,
        REQUEST_BODY.c.holder.is_not(None),
        REQUEST_BODY.c.delivered_at.is_(None),
    )
    for row in session.connection().execute(slices.locked(session, wanted.order_by(BATCH.c.number))):
        if row.abandoned_at is not None or is_dead(row.holder):
            change = update(REQUEST_BODY).where(REQUEST_BODY.c.batch == row.number)
            session.connection().execute(change.values(holder=holder, abandoned_at=None))
            return Held(number=row.number, id=row.id)
    return None


def abandon(session: Session, numbers: Collection[int]) -> None:
    """Their clients went away."""
    unanswered = (REQUEST_BODY.c.batch.in_(numbers), REQUEST_BODY.c.delivered_at.is_(None))
    session.connection().execute(update(REQUEST_BODY).where(*unanswered).values(abandoned_at=clock.now()))


def deliver(session: Session, numbers: Collection[int]) -> None:
    """Their clients have the answers."""
    change = update(REQUEST_BODY).where(REQUEST_BODY.c.batch.in_(numbers)).values(delivered_at=clock.now())
    session.connection().execute(change)


def cancel(session: Session, owner: str, id: str) -> Batch | None:
    """Raises batches.AtRest."""
    if not ids.is_job(id):
        return None
    row = session.exec(select_model(Batch).where(*_is(owner, id)).with_for_update()).first()
    return None if row is None else batches.cancel(session, row)


def page(session: Session, owner: str, *, limit: int, after: int | None = None) -> list[int]:
    """Numbers, newest first."""
    mine = select(BATCH.c.number).where(BATCH.c.owner == owner, BATCH.c.kind == Kind.HELD, BATCH.c.deleted_at.is_(None))
    query = mine.order_by(BATCH.c.number.desc()).limit(limit)
    return list(session.connection().execute(query if after is None else query.where(BATCH.c.number < after)).scalars())


def facts(session: Session, numbers: Sequence[int], *, with_answers: bool) -> list[Facts]:
    """In the order asked for."""
    connection = session.connection()
    rows = {row.number: row for row in session.exec(select_model(Batch).where(col(Batch.number).in_(numbers)))}
    jobs = [tables.job_id(number, LINE) for number in numbers]
    started = sqlalchemy.and_(SLICE.c.state == SliceState.LEASED, SLICE.c.started != "").label("started")
    statement = (
        select(JOB.c.id, JOB.c.custom_id, JOB.c.state, SLICE.c.route, started, ATTEMPT.c.model)
        .join(SLICE, SLICE.c.id == JOB.c.slice)
        .outerjoin(ATTEMPT, sqlalchemy.and_(ATTEMPT.c.job == JOB.c.id, ATTEMPT.c.id == JOB.c.answered_by))
        .where(JOB.c.id.in_(jobs))
    )
    known = {row.id: row for row in connection.execute(statement)}
    lines = answers(session, jobs) if with_answers else {}
    return [
        Facts(
            batch=rows[number],
            route=known[job].route,
            custom_id=known[job].custom_id,
            state=JobState(known[job].state),
            started=bool(known[job].started),
            served_model=known[job].model,
            answer=lines.get(job),
        )
        for number, job in zip(numbers, jobs, strict=True)
        if number in rows and job in known
    ]


def _is(owner: str, id: str) -> tuple[sqlalchemy.ColumnElement[bool], ...]:
    return BATCH.c.id == id, BATCH.c.owner == owner, BATCH.c.deleted_at.is_(None)


def _asked(new: NewHeld) -> Asked:
    return Asked(
        api_key=new.api_key,
        job=new.job,
        prices=new.prices,
        max_cost=new.max_cost,
        allow_unknown_cost=new.allow_unknown_cost,
    )


def _batch(new: NewHeld, terms: Terms, now: float) -> dict[str, Any]:
    return {
        **_BLANK_BATCH,
        "id": ids.new_job(),
        "owner": new.owner,
        "api_key": new.api_key,
        "kind": Kind.HELD,
        "status": BatchStatus.IN_PROGRESS,
        "endpoint": new.url,
        "model": new.job.route,
        "input_file_id": "",
        "completion_window": new.window,
        "metadata": new.metadata,
        "fingerprint": new.fingerprint,
        "priority": new.priority,
        "max_cost": terms.max_cost,
        "allow_unknown_cost": terms.allow_unknown_cost,
        "allow_fallback": new.allow_fallback,
        "created_at": now,
        "in_progress_at": now,
        "window_seconds": new.window_seconds,
        "expires_at": None if new.window_seconds is None else now + new.window_seconds,
        "due_at": now + min(due.RECHECK_SECONDS, new.window_seconds or due.RECHECK_SECONDS),
        "intake_line": LINE,
        "total": 1,
        "open": 1,
    }


def _tally(number: int, new: NewHeld) -> dict[str, Any]:
    return {
        **_BLANK_TALLY,
        "batch": number,
        "route": new.job.route,
        "owner": new.owner,
        "lines": 1,
        "estimated_input_tokens": new.job.input_tokens,
        "estimated_output_tokens": new.job.output_tokens,
        "input_price": new.prices[0],
        "output_price": new.prices[1],
    }


def _slice(number: int, new: NewHeld, now: float) -> dict[str, Any]:
    fresh = slices.fresh(
        owner=new.owner,
        batch=number,
        generation=1,
        route=new.job.route,
        first_line=LINE,
        jobs=1,
        tokens=new.job.input_tokens + new.job.output_tokens,
    )
    return {**fresh, "state": SliceState.PUBLISHED, "published": 1, "published_at": now}


def _job(number: int, slice: int, new: NewHeld) -> tuple[Any, ...]:
    return intake.job_values(tables.job_id(number, LINE), new.owner, slice, 1, new.job)
