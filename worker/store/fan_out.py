"""The outbox becomes deliveries: each event for each endpoint that is to hear of it."""

from collections.abc import Iterator

from sqlalchemy import or_, select
from sqlmodel import Session, col
from sqlmodel import select as select_model

from worker import clock, ids, tables
from worker.states import Kind
from worker.store import notices
from worker.tables import EVENT
from worker.tables.webhooks import Delivery, WebhookEndpoint
from worker.webhooks.event_types import ENDED

MOST_EVENTS = 100


def has_new_events(session: Session) -> bool:
    statement = select(EVENT.c.id).where(EVENT.c.fanned_at.is_(None)).limit(1)
    return session.connection().execute(statement).first() is not None


def fan_out(session: Session) -> int:
    """Make the deliveries of some new events; how many events."""
    new = select_model(tables.Event).where(col(tables.Event.fanned_at).is_(None))
    query = new.order_by(col(tables.Event.created_at))
    if session.connection().dialect.name == "postgresql":
        query = query.with_for_update(skip_locked=True)
    events = list(session.exec(query.limit(MOST_EVENTS)))
    now = float(session.connection().execute(select(clock.now())).scalar_one())
    for event in events:
        event.fanned_at = now
        if event.type in ENDED:
            notices.supersede_progress(session, event.batch)
        for endpoint in _hearing(session, event):
            session.add(
                Delivery(
                    id=ids.new_delivery(),
                    owner=event.owner,
                    event=event.id,
                    endpoint=endpoint,
                    due_at=now,
                    created_at=event.created_at,
                )
            )
    return len(events)


def _hearing(session: Session, event: tables.Event) -> Iterator[str]:
    """Endpoints that were there before the event and want its type, and the one that its batch names."""
    batch = session.get(tables.Batch, event.batch)
    if batch is None or batch.kind == Kind.HELD:
        return
    query = select_model(WebhookEndpoint).where(
        WebhookEndpoint.owner == event.owner,
        col(WebhookEndpoint.disabled_at).is_(None),
        or_(~col(WebhookEndpoint.of_batches), col(WebhookEndpoint.id) == batch.webhook_endpoint),
    )
    for endpoint in session.exec(query):
        if endpoint.of_batches:
            wants = event.type in (batch.webhook_events or ())
        else:
            wants = event.type in endpoint.event_types and endpoint.created_at <= event.created_at
        if wants:
            yield endpoint.id
