"""The outbox at work: events become deliveries, deliveries are claimed, sent and recorded."""

import random
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import func, or_, select, update
from sqlmodel import Session, col
from sqlmodel import select as select_model

from worker import clock, ids, tables
from worker.store import webhooks
from worker.tables import BATCH, DELIVERY, ENDPOINT, EVENT
from worker.tables.webhooks import Delivery, DeliveryAttempt, WebhookEndpoint
from worker.webhooks import sender
from worker.webhooks.sender import Answer, Message

SCHEDULE = (0.0, 5.0, 300.0, 1_800.0, 7_200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0)
"""Seconds before each try."""
JITTER = 0.2
THROTTLES = frozenset({429, 502, 504})
THROTTLE_SECONDS = 60.0
MOST_EVENTS = 100


def fan_out(session: Session) -> int:
    """Make the deliveries of some new events: one for each endpoint that was there and wants their type."""
    query = select_model(tables.Event).where(col(tables.Event.fanned_at).is_(None))
    if session.connection().dialect.name == "postgresql":
        query = query.with_for_update(skip_locked=True)
    events = list(session.exec(query.limit(MOST_EVENTS)))
    for event in events:
        event.fanned_at = _now(session)
        wanting = select_model(WebhookEndpoint).where(
            WebhookEndpoint.owner == event.owner,
            WebhookEndpoint.created_at <= event.created_at,
            col(WebhookEndpoint.disabled_at).is_(None),
        )
        session.add_all(
            Delivery(
                id=ids.new_delivery(),
                owner=event.owner,
                event=event.id,
                endpoint=endpoint.id,
                due_at=event.fanned_at,
                created_at=event.created_at,
            )
            for endpoint in session.exec(wanting)
            if event.type in endpoint.event_types
        )
    return len(events)


def has_new_events(session: Session) -> bool:
    statement = select(EVENT.c.id).where(EVENT.c.fanned_at.is_(None)).limit(1)
    return session.connection().execute(statement).first() is not None


def due_endpoints(session: Session, busy: Collection[str], limit: int) -> Sequence[str]:
    """Those with something to send, the longest overdue first, so that none waits behind another's many."""
    statement = (
        select(DELIVERY.c.endpoint)
        .join(ENDPOINT, ENDPOINT.c.id == DELIVERY.c.endpoint)
        .where(
            DELIVERY.c.due_at <= clock.now(),
            ENDPOINT.c.disabled_at.is_(None),
            or_(ENDPOINT.c.rests_until.is_(None), ENDPOINT.c.rests_until <= clock.now()),
            DELIVERY.c.endpoint.not_in(list(busy)),
        )
        .group_by(DELIVERY.c.endpoint)
        .order_by(func.min(DELIVERY.c.due_at))
        .limit(limit)
    )
    return session.connection().execute(statement).scalars().all()


def claim(session: Session, endpoint: str, lease_seconds: float) -> Message | None:
    """The next message for an endpoint. Unless it is recorded within the lease, it is sent again with the same id."""
    row: Any = session.connection().execute(_next(endpoint)).first()
    receiver = session.get(WebhookEndpoint, endpoint)
    if row is None or receiver is None:
        return None
    claimed = session.connection().execute(
        update(DELIVERY)
        .where(DELIVERY.c.id == row.id, DELIVERY.c.due_at == row.due_at)
        .values(due_at=clock.now() + lease_seconds)
    )
    if claimed.rowcount != 1:
        return None
    now = _now(session)
    return Message(
        id=row.id,
        url=receiver.url,
        secrets=webhooks.secrets(receiver, now),
        timestamp=int(now),
        body=sender.event_body(row.event, row.type, row.created_at, row.batch),
    )


def record(session: Session, id: str, answer: Answer, scale: float) -> None:
    """What came of a try, and when the next one is due. ``scale`` shortens the schedule."""
    delivery = session.exec(select_model(Delivery).where(Delivery.id == id).with_for_update()).first()
    if delivery is None:
        return
    endpoint = session.get(WebhookEndpoint, delivery.endpoint)
    now = _now(session)
    delivery.tries, delivery.sent = delivery.tries + 1, delivery.sent + 1
    delivery.last_status, delivery.last_error = answer.status, answer.error
    session.add(
        DeliveryAttempt(
            delivery=id,
            number=delivery.sent,
            owner=delivery.owner,
            at=now - answer.seconds,
            seconds=answer.seconds,
            status=answer.status,
            error=answer.error,
            answer=answer.body,
        )
    )
    if answer.is_success:
        delivery.state, delivery.due_at, delivery.delivered_at = "delivered", None, now
    elif delivery.tries >= len(SCHEDULE):
        delivery.state, delivery.due_at = "failed", None
    else:
        jittered = SCHEDULE[delivery.tries] * scale * random.uniform(1 - JITTER, 1 + JITTER)
        delivery.due_at = now + max(jittered, answer.wait or 0.0)
    if endpoint is not None:
        _judge(session, endpoint, answer, now, scale)


def _judge(session: Session, endpoint: WebhookEndpoint, answer: Answer, now: float, scale: float) -> None:
    """What an answer says of its endpoint."""
    endpoint.failing_since = None if answer.is_success else endpoint.failing_since or now
    if answer.is_success:
        endpoint.rests_until = None
    elif answer.wait is not None or answer.status in THROTTLES:
        endpoint.rests_until = now + (THROTTLE_SECONDS * scale if answer.wait is None else answer.wait)
    if answer.status == 410:
        endpoint.disabled_at = now
        session.flush()
        session.connection().execute(
            update(DELIVERY)
            .where(DELIVERY.c.endpoint == endpoint.id, DELIVERY.c.due_at.is_not(None))
            .values(state="failed", due_at=None, last_error="the endpoint answered 410 and is disabled")
        )


def _next(endpoint: str) -> Any:
    return (
        select(
            DELIVERY.c.id,
            DELIVERY.c.due_at,
            DELIVERY.c.event,
            EVENT.c.type,
            EVENT.c.created_at,
            BATCH.c.id.label("batch"),
        )
        .join(EVENT, EVENT.c.id == DELIVERY.c.event)
        .join(BATCH, BATCH.c.number == EVENT.c.batch)
        .where(DELIVERY.c.endpoint == endpoint, DELIVERY.c.due_at <= clock.now())
        .order_by(DELIVERY.c.due_at)
        .limit(1)
    )


def _now(session: Session) -> float:
    return float(session.connection().execute(select(clock.now())).scalar_one())
