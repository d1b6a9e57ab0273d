"""The outbox at work: events become deliveries, deliveries are claimed, sent and recorded."""

import random
from collections.abc import Collection
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, func, or_, select, tuple_, update
from sqlmodel import Session
from sqlmodel import select as select_model

from worker import clock
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
SUPERSEDED = "superseded"
"""The state of a delivery that newer news made pointless."""


class Receiver(NamedTuple):
    """An owner's host and port: what is sent there goes through few sendings at once."""

    owner: str
    address: str


def due_receivers(session: Session, busy: Collection[Receiver], limit: int) -> list[Receiver]:
    """Those to whom something may be sent, the longest overdue first, so that none waits behind another's many."""
    receiver = (ENDPOINT.c.owner, ENDPOINT.c.receiver)
    statement = (
        select(*receiver)
        .join(DELIVERY, DELIVERY.c.endpoint == ENDPOINT.c.id)
        .where(*_sendable(), tuple_(*receiver).not_in(list(busy)))
        .group_by(*receiver)
        .order_by(func.min(DELIVERY.c.due_at))
        .limit(limit)
    )
    return [Receiver(*row) for row in session.connection().execute(statement)]


def claim(session: Session, receiver: Receiver, lease_seconds: float) -> Message | None:
    """The next message for a receiver. Unless it is recorded within the lease, it is sent again with the same id."""
    row: Any = session.connection().execute(_next(receiver)).first()
    endpoint = None if row is None else session.get(WebhookEndpoint, row.endpoint)
    if endpoint is None:
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
        url=endpoint.url,
        secrets=webhooks.secrets(session, endpoint, now),
        timestamp=int(now),
        body=sender.event_body(row.event, row.type, row.created_at, row.batch, row.data),
    )


def record(session: Session, id: str, answer: Answer, scale: float) -> None:
    """What came of a try, and when the next one is due. ``scale`` shortens the schedule."""
    locked = _locked(session, id)
    if locked is None:
        return
    endpoint, delivery = locked
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
    elif delivery.state == SUPERSEDED:
        delivery.due_at = None
    elif delivery.tries >= len(SCHEDULE):
        delivery.state, delivery.due_at = "failed", None
    else:
        jittered = SCHEDULE[delivery.tries] * scale * random.uniform(1 - JITTER, 1 + JITTER)
        delivery.due_at = now + max(jittered, answer.wait or 0.0)
    _judge(session, endpoint, answer, now, scale)


def _locked(session: Session, id: str) -> tuple[WebhookEndpoint, Delivery] | None:
    """Endpoint before delivery, as whoever deletes an endpoint locks them; None if one was deleted meanwhile."""
    own = select(DELIVERY.c.endpoint).where(DELIVERY.c.id == id).scalar_subquery()
    endpoint = session.exec(select_model(WebhookEndpoint).where(WebhookEndpoint.id == own).with_for_update()).first()
    delivery = session.exec(select_model(Delivery).where(Delivery.id == id).with_for_update()).first()
    return None if endpoint is None or delivery is None else (endpoint, delivery)


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


def _next(receiver: Receiver) -> Any:
    return (
        select(
            DELIVERY.c.id,
            DELIVERY.c.due_at,
            DELIVERY.c.event,
            DELIVERY.c.endpoint,
            EVENT.c.type,
            EVENT.c.created_at,
            EVENT.c.data,
            BATCH.c.id.label("batch"),
        )
        .join(ENDPOINT, ENDPOINT.c.id == DELIVERY.c.endpoint)
        .join(EVENT, EVENT.c.id == DELIVERY.c.event)
        .join(BATCH, BATCH.c.number == EVENT.c.batch)
        .where(*_sendable(), ENDPOINT.c.owner == receiver.owner, ENDPOINT.c.receiver == receiver.address)
        .order_by(DELIVERY.c.due_at)
        .limit(1)
    )


def _sendable() -> tuple[ColumnElement[bool], ...]:
    return (
        DELIVERY.c.due_at <= clock.now(),
        ENDPOINT.c.disabled_at.is_(None),
        or_(ENDPOINT.c.rests_until.is_(None), ENDPOINT.c.rests_until <= clock.now()),
    )


def _now(session: Session) -> float:
    return float(session.connection().execute(select(clock.now())).scalar_one())
