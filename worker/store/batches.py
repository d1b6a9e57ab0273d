"""Batches as their owner sees them: create, find, cancel, pause, resume, extend. Intake and the engine move them on.

BatchError
 ├ InputFileMissing
 ├ WrongPurpose
 ├ BudgetSpent
 ├ TooDear
 ├ UnknownCost
 ├ AtRest
 └ Expired
"""

from dataclasses import dataclass, field
from typing import TypedDict, Unpack

import sqlalchemy
from sqlalchemy import ColumnElement
from sqlmodel import Session, col, select

from worker import clock, ids, states
from worker.states import BatchStatus, Kind, Stop
from worker.store import files, purses, webhooks
from worker.tables import ApiKey, Batch, Tally

RESENT_WITHIN = 600.0
"""Seconds in which a create that an SDK sends again is taken for the one whose answer was lost."""


class BatchError(Exception):
    """The batch cannot do that."""


class InputFileMissing(BatchError):
    """There is no such input file."""


class WrongPurpose(BatchError):
    """The input file was not uploaded with the purpose 'batch'."""


class BudgetSpent(BatchError):
    """The API key refuses new batches until its next period."""

    def __init__(self, name: str, ends_at: float) -> None:
        super().__init__(
            f"The budget of the API key '{name}' is spent until {purses.utc(ends_at)}: wait, or ask this server's "
            "operator for a higher one."
        )


class TooDear(BatchError):
    """A held job may cost more than its API key allows for one batch. Money is pico-USD."""

    def __init__(self, name: str, estimate: int, limit: int) -> None:
        super().__init__(
            f"This request is estimated to cost ${estimate / purses.PICO:.4f}, and the API key '{name}' allows "
            f"${limit / purses.PICO:.4f} at once: lower its maximum of tokens, or ask this server's operator."
        )


class UnknownCost(BatchError):
    """Under a budget nothing of unknown price may be called, unless the API key allows it."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"The API key '{name}' has a budget, so it may call no models of unknown price: name one whose price is "
            "known, or ask this server's operator for a price or for 'gristmill keys change --allow-unknown-cost yes'."
        )


class AtRest(BatchError):
    """The batch has ended."""

    def __init__(self, status: str) -> None:
        super().__init__(status)
        self.status = status


class Expired(BatchError):
    """The batch's window has passed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NewBatch:
    """What a client asks for. ``window_seconds`` is the meaning of ``completion_window``; money is pico-USD."""

    owner: str
    endpoint: str
    input_file_id: str
    completion_window: str
    window_seconds: float | None
    fingerprint: str
    metadata: dict[str, str] = field(default_factory=dict)
    identity: str | None = None
    priority: int = 0
    hold: bool = False
    invalid_lines: str = "fail"
    line_limit: int | None = None
    max_cost: int | None = None
    allow_unknown_cost: bool = False
    allow_fallback: bool = False
    output_expires_after: int | None = None
    kind: Kind = Kind.BATCH
    api_key: str | None = None
    webhook_url: str | None = None
    webhook_events: list[str] | None = None


class Limits(TypedDict, total=False):
    """What a resume may change; a limit that is not named stays."""

    max_cost: int | None
    allow_unknown_cost: bool
    allow_fallback: bool
    line_limit: int | None


def create(session: Session, new: NewBatch, *, resent: bool = False) -> tuple[Batch, bool]:
    """The batch in state ``validating``, and whether it is new.

    The lock on the input file makes equal creates wait for each other, so a resent one always sees the first.
    """
    file = files.claim(session, new.owner, new.input_file_id)
    if resent and (first := _accepted_before(session, new.owner, new.fingerprint)):
        return first, False
    if file is None:
        raise InputFileMissing
    if file.purpose != "batch":
        raise WrongPurpose
    if new.api_key is not None:
        refuse_if_spent(session, new.api_key)
    if new.allow_unknown_cost:
        refuse_unknown_cost(session, new.api_key)
    now = _now(session)
    webhook = webhooks.for_batches(session, new.owner, new.webhook_url) if new.webhook_url else None
    batch = Batch(
        id=ids.new_message_batch() if new.kind == Kind.MESSAGES else ids.new_batch(),
        owner=new.owner,
        api_key=new.api_key,
        kind=new.kind,
        status=BatchStatus.VALIDATING,
        endpoint=new.endpoint,
        input_file_id=new.input_file_id,
        completion_window=new.completion_window,
        metadata_=new.metadata,
        fingerprint=new.fingerprint,
        identity=new.identity,
        priority=new.priority,
        invalid_lines=new.invalid_lines,
        line_limit=new.line_limit,
        max_cost=within_budget(session, new.api_key, new.max_cost),
        allow_unknown_cost=new.allow_unknown_cost,
        allow_fallback=new.allow_fallback,
        output_expires_after=new.output_expires_after,
        webhook_endpoint=webhook.id if webhook else None,
        webhook_events=new.webhook_events if webhook else None,
        created_at=now,
        window_seconds=new.window_seconds,
        expires_at=None if new.window_seconds is None else now + new.window_seconds,
        paused_at=now if new.hold else None,
        due_at=now,
    )
    session.add(batch)
    session.flush()
    return batch, True


def get(session: Session, owner: str, id: str) -> Batch | None:
    if not ids.is_batch(id):
        return None
    return session.exec(select(Batch).where(Batch.id == id, Batch.owner == owner, visible())).first()


def page(
    session: Session,
    owner: str,
    *,
    limit: int,
    after: int | None = None,
    before: int | None = None,
    identity: str | None = None,
    kind: Kind = Kind.BATCH,
) -> list[Batch]:
    """Those of one kind, newest first: the next ones behind the batch number ``after``, or the last ``before`` one."""
    query = select(Batch).where(Batch.owner == owner, Batch.kind == kind, visible()).limit(limit)
    if identity is not None:
        query = query.where(Batch.identity == identity)
    if before is not None:
        newer = query.where(col(Batch.number) > before).order_by(col(Batch.number))
        return list(reversed(session.exec(newer).all()))
    if after is not None:
        query = query.where(col(Batch.number) < after)
    return list(session.exec(query.order_by(col(Batch.number).desc())))


def find_by_identity(session: Session, owner: str, identity: str) -> Batch | None:
    """The newest batch of that identity."""
    found = page(session, owner, limit=1, identity=identity)
    return found[0] if found else None


def request_cancel(session: Session, owner: str, id: str) -> Batch | None:
    """Stop admission at once; the engine ends the batch. Repeating changes nothing. Raises AtRest."""
    batch = lock(session, owner, id)
    return None if batch is None else cancel(session, batch)


def cancel(session: Session, batch: Batch) -> Batch:
    """``request_cancel`` of a batch that is locked.

    Each request of a message batch gets a result, also one that was not read yet: intake goes on to the end first.
    """
    _refuse_at_rest(batch)
    if batch.stop == Stop.CANCEL:
        return batch
    now = _now(session)
    if batch.kind != Kind.MESSAGES or batch.status != BatchStatus.VALIDATING:
        _move(batch, BatchStatus.CANCELLING)
    batch.stop = Stop.CANCEL
    batch.stop_at = batch.stop_at or now
    batch.cancelling_at = now
    _ring(batch, now)
    session.flush()
    return batch


def pause(session: Session, owner: str, id: str) -> Batch | None:
    """No call of the batch starts until it is resumed. Repeating changes nothing. Raises AtRest."""
    batch = lock(session, owner, id)
    if batch is None:
        return None
    _refuse_at_rest(batch)
    if batch.paused_at is None:
        batch.paused_at = _now(session)
        session.flush()
    return batch


def resume(session: Session, owner: str, id: str, **limits: Unpack[Limits]) -> Batch | None:
    """Move the limits and let go of the batch's own pauses: its owner's, its cap's, its models'.

    Raises AtRest or UnknownCost.
    """
    batch = lock(session, owner, id)
    if batch is None:
        return None
    _refuse_at_rest(batch)
    if limits.get("allow_unknown_cost"):
        refuse_unknown_cost(session, batch.api_key)
    for name, value in limits.items():
        setattr(batch, name, value)
    batch.max_cost = within_budget(session, batch.api_key, batch.max_cost)
    batch.paused_at = None
    batch.capped_at = None
    _ring(batch, _now(session))
    session.flush()
    release = (
        sqlalchemy.update(Tally)
        .where(col(Tally.batch) == batch.number, col(Tally.paused_at).is_not(None))
        .values(paused_at=None, alike=-1, alike_code=None)
    )
    session.connection().execute(release)
    return batch


def extend(session: Session, owner: str, id: str, window: str, seconds: float | None) -> Batch | None:
    """Give the batch another window from now on; None for no end. Raises AtRest or Expired."""
    batch = lock(session, owner, id)
    if batch is None:
        return None
    if batch.status == BatchStatus.EXPIRED or batch.stop == Stop.EXPIRE:
        raise Expired
    if batch.stop is not None:
        raise AtRest(batch.status)
    _refuse_at_rest(batch)
    now = _now(session)
    batch.completion_window, batch.window_seconds = window, seconds
    batch.expires_at = None if seconds is None else now + seconds
    batch.blocked_since = None if batch.blocked_since is None else now  # what was before does not move the new end
    _ring(batch, now)
    session.flush()
    return batch


def prioritize(session: Session, owner: str, id: str, priority: int) -> Batch | None:
    """Batches with more go first."""
    batch = lock(session, owner, id)
    if batch is not None:
        batch.priority = priority
        session.flush()
    return batch


def refuse_if_spent(session: Session, key: str) -> None:
    """Raises BudgetSpent."""
    purse = purses.of(session, key)
    if purse.refuses and purses.is_spent(session, purse):
        raise BudgetSpent(purse.name, purse.ends_at(max(1, purse.left() or 0) + 1))


def refuse_unknown_cost(session: Session, key: str | None) -> None:
    """Raises UnknownCost."""
    row = session.exec(select(ApiKey).where(ApiKey.id == key)).first()
    if row is not None and purses.has_budget(row) and not row.allow_unknown_cost:
        raise UnknownCost(row.name)


def within_budget(session: Session, key: str | None, max_cost: int | None) -> int | None:
    """No more than the key allows for a batch."""
    if key is None:
        return max_cost
    limit = session.exec(select(ApiKey.budget_batch).where(ApiKey.id == key)).first()
    return min((one for one in (max_cost, limit) if one is not None), default=None)


def _accepted_before(session: Session, owner: str, fingerprint: str) -> Batch | None:
    query = (
        select(Batch)
        .where(Batch.owner == owner, Batch.fingerprint == fingerprint, visible())
        .where(Batch.created_at > clock.now() - RESENT_WITHIN)
        .order_by(col(Batch.number).desc())
    )
    return session.exec(query).first()


def lock(session: Session, owner: str, id: str) -> Batch | None:
    """``get``, and until this transaction ends nobody else changes the batch."""
    if not ids.is_batch(id):
        return None
    mine = select(Batch).where(Batch.id == id, Batch.owner == owner, visible())
    return session.exec(mine.with_for_update()).first()


def visible() -> ColumnElement[bool]:
    """A deleted batch is there for nobody but the eraser."""
    return col(Batch.deleted_at).is_(None)


def _refuse_at_rest(batch: Batch) -> None:
    if batch.status in states.AT_REST:
        raise AtRest(batch.status)


def _move(batch: Batch, status: BatchStatus) -> None:
    if status not in states.BATCH_MOVES[BatchStatus(batch.status)]:
        raise AssertionError(f"a batch cannot move from {batch.status} to {status}")
    batch.status = status


def _ring(batch: Batch, now: float) -> None:
    batch.due_at = now
    batch.due_tries = 0


def _now(session: Session) -> float:
    return float(session.connection().execute(sqlalchemy.select(clock.now())).scalar_one())
