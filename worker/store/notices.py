"""What owners asked to be told of a batch while it runs: how far it is, and each time in which lines wait."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlmodel import Session, col
from sqlmodel import select as select_model

from worker import clock, ids
from worker.states import BatchStatus, Kind
from worker.store.deliveries import SUPERSEDED
from worker.store.slices import lock_batches
from worker.tables import DELIVERY, DELIVERY_ATTEMPT, EVENT, Batch, Event, WebhookEndpoint
from worker.webhooks.event_types import BLOCKED, PROGRESS, UNBLOCKED, WHILE_IT_RUNS

KEPT = 10
"""Progress events of a batch that are kept, with their deliveries."""


@dataclass(kw_only=True, slots=True)
class Noted:
    """What was told of a batch's generation: the last progress, and how often it was blocked and unblocked."""

    progress: Event | None = None
    times: dict[str, int] = field(default_factory=dict)

    @property
    def is_blocked(self) -> bool:
        return self.times.get(BLOCKED, 0) > self.times.get(UNBLOCKED, 0)


def wanted(session: Session) -> list[tuple[Batch, frozenset[str]]]:
    """Running batches of which somebody wants to hear while they run, and what."""
    of_owners: dict[str, set[str]] = {}
    query = select_model(WebhookEndpoint).where(col(WebhookEndpoint.disabled_at).is_(None))
    for endpoint in session.exec(query.where(~col(WebhookEndpoint.of_batches))):
        asked = set(endpoint.event_types).intersection(WHILE_IT_RUNS)
        if asked:
            of_owners.setdefault(endpoint.owner, set()).update(asked)
    heard = col(Batch.webhook_endpoint).is_not(None) | col(Batch.owner).in_(of_owners)
    running = select_model(Batch).where(Batch.status == BatchStatus.IN_PROGRESS, Batch.kind != Kind.HELD, heard)
    found = []
    for batch in session.exec(running):
        types = of_owners.get(batch.owner, set()).union(batch.webhook_events or ()).intersection(WHILE_IT_RUNS)
        if types:
            found.append((batch, frozenset(types)))
    return found


def noted(session: Session, batch: Batch) -> Noted:
    mine = (EVENT.c.batch == batch.number, EVENT.c.generation == batch.generation, EVENT.c.type.in_(WHILE_IT_RUNS))
    statement = select(EVENT.c.type, func.max(EVENT.c.number)).where(*mine).group_by(EVENT.c.type)
    times: dict[str, int] = {type: number for type, number in session.connection().execute(statement)}
    last = select_model(Event).where(
        Event.batch == batch.number,
        Event.generation == batch.generation,
        Event.type == PROGRESS,
        Event.number == times.get(PROGRESS, 0),
    )
    return Noted(progress=session.exec(last).first(), times=times)


def note_progress(session: Session, number: int, data: Mapping[str, Any], seconds: float) -> bool:
    """Unless it was told within ``seconds``, or nothing changed. What was not sent of older progress never will be."""
    batch = _running(session, number)
    if batch is None:
        return False
    told = noted(session, batch)
    if told.progress is not None and (told.progress.data == data or told.progress.created_at > _now(session) - seconds):
        return False
    latest = told.times.get(PROGRESS, 0) + 1
    supersede_progress(session, number)
    _forget(session, batch, latest - KEPT)
    _add(session, batch, PROGRESS, latest, data)
    return True


def note_block(session: Session, number: int, blocks: Sequence[Mapping[str, Any]]) -> bool:
    """Why lines wait, once when that begins and once when it ends."""
    batch = _running(session, number)
    if batch is None:
        return False
    told = noted(session, batch)
    if told.is_blocked is bool(blocks):
        return False
    if blocks:
        _add(session, batch, BLOCKED, told.times.get(BLOCKED, 0) + 1, {"blocked_by": [*blocks]})
    else:
        _add(session, batch, UNBLOCKED, told.times[BLOCKED], None)
    return True


def supersede_progress(session: Session, number: int) -> None:
    """Newer news make the progress pointless that was not received yet."""
    older = select(EVENT.c.id).where(EVENT.c.batch == number, EVENT.c.type == PROGRESS)
    session.connection().execute(
        update(DELIVERY)
        .where(DELIVERY.c.event.in_(older), DELIVERY.c.due_at.is_not(None))
        .values(state=SUPERSEDED, due_at=None)
    )


def _forget(session: Session, batch: Batch, number: int) -> None:
    old = select(EVENT.c.id).where(
        EVENT.c.batch == batch.number,
        EVENT.c.generation == batch.generation,
        EVENT.c.type == PROGRESS,
        EVENT.c.number <= number,
    )
    deliveries = select(DELIVERY.c.id).where(DELIVERY.c.event.in_(old))
    session.connection().execute(delete(DELIVERY_ATTEMPT).where(DELIVERY_ATTEMPT.c.delivery.in_(deliveries)))
    session.connection().execute(delete(DELIVERY).where(DELIVERY.c.event.in_(old)))
    session.connection().execute(delete(EVENT).where(EVENT.c.id.in_(old)))


def _running(session: Session, number: int) -> Batch | None:
    """Locked, so that two who note at once see each other."""
    lock_batches(session, [number])
    batch = session.exec(select_model(Batch).where(Batch.number == number)).one()
    return batch if batch.status == BatchStatus.IN_PROGRESS else None


def _add(session: Session, batch: Batch, type: str, number: int, data: Mapping[str, Any] | None) -> None:
    assert batch.number is not None
    session.add(
        Event(
            id=ids.new_event(),
            owner=batch.owner,
            batch=batch.number,
            generation=batch.generation,
            type=type,
            number=number,
            data=None if data is None else dict(data),
            created_at=_now(session),
        )
    )
    session.flush()


def _now(session: Session) -> float:
    return float(session.connection().execute(select(clock.now())).scalar_one())
