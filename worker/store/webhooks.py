"""Webhook endpoints and their deliveries as their owner sees them.

WebhookError
 ├ Disabled
 └ SecretOfOwner
"""

from typing import Any, NamedTuple

from sqlalchemy import delete, or_, select, update
from sqlmodel import Session, col
from sqlmodel import select as select_model

from worker import clock, ids
from worker.store import webhook_secrets
from worker.store.webhook_secrets import ROTATION_SECONDS
from worker.tables import BATCH, DELIVERY, DELIVERY_ATTEMPT, ENDPOINT, Batch, Event
from worker.tables.webhooks import Delivery, DeliveryAttempt, WebhookEndpoint, WebhookSecret
from worker.webhooks import signature, target

MOST_REMOVED = 500
"""Endpoints in one transaction."""


class Sent(NamedTuple):
    """A delivery, its event, and the id of its batch."""

    delivery: Delivery
    event: Event
    batch: str


class WebhookError(Exception):
    """The endpoint cannot do that."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


class Disabled(WebhookError):
    """The endpoint is disabled since it answered 410: update it, then replay."""


class SecretOfOwner(WebhookError):
    """The endpoint belongs to batches, which are signed with your own webhook secret: rotate that one."""


def create(session: Session, owner: str, *, name: str, url: str, event_types: list[str]) -> WebhookEndpoint:
    """With a new secret."""
    return _add(session, owner, name=name, url=url, event_types=event_types, secret=signature.new_secret())


def for_batches(session: Session, owner: str, url: str) -> WebhookEndpoint:
    """The one that the owner's batches with this ``webhook_url`` share; a new batch wakes one that answered 410."""
    query = select_model(WebhookEndpoint).where(
        WebhookEndpoint.owner == owner, WebhookEndpoint.url == url, col(WebhookEndpoint.of_batches)
    )
    row = session.exec(query.with_for_update()).first()
    if row is None:
        return _add(session, owner, name="webhook_url", url=url, event_types=[], secret="", of_batches=True)
    if row.disabled_at is not None:
        row.disabled_at = row.rests_until = None
        session.flush()
    return row


def get(session: Session, owner: str, id: str) -> WebhookEndpoint | None:
    if not ids.is_webhook_endpoint(id):
        return None
    query = select_model(WebhookEndpoint).where(WebhookEndpoint.id == id, WebhookEndpoint.owner == owner)
    return session.exec(query.with_for_update()).first()


def page(session: Session, owner: str, *, limit: int, after: WebhookEndpoint | None = None) -> list[WebhookEndpoint]:
    """Newest first, without those of batches."""
    made, id = col(WebhookEndpoint.created_at), col(WebhookEndpoint.id)
    mine = select_model(WebhookEndpoint).where(WebhookEndpoint.owner == owner, ~col(WebhookEndpoint.of_batches))
    query = mine.order_by(made.desc(), id.desc())
    if after is not None:
        query = query.where(or_(made < after.created_at, (made == after.created_at) & (id < after.id)))
    return list(session.exec(query.limit(limit)))


def change(session: Session, owner: str, id: str, changes: dict[str, object]) -> WebhookEndpoint | None:
    """What is not named stays. A change lets a disabled endpoint work again."""
    row = get(session, owner, id)
    if row is None:
        return None
    if row.disabled_at is not None or any(getattr(row, name) != value for name, value in changes.items()):
        row.updated_at = _now(session)
    for name, value in changes.items():
        setattr(row, name, value)
    row.receiver = target.receiver(row.url)
    row.disabled_at = row.rests_until = None
    session.flush()
    return row


def rotate(session: Session, owner: str, id: str, *, keep_old: bool) -> WebhookEndpoint | None:
    """A new secret; the old one may sign beside it for a day. Raises SecretOfOwner."""
    row = get(session, owner, id)
    if row is None:
        return None
    if row.of_batches:
        raise SecretOfOwner
    now = _now(session)
    row.old_secret, row.old_secret_until = (row.secret, now + ROTATION_SECONDS) if keep_old else (None, None)
    row.secret, row.updated_at = signature.new_secret(), now
    session.flush()
    return row


def secrets(session: Session, endpoint: WebhookEndpoint, now: float) -> list[str]:
    """Those that sign at ``now``, the newest first."""
    row: WebhookEndpoint | WebhookSecret = endpoint
    if endpoint.of_batches:
        row = webhook_secrets.of(session, endpoint.owner)
    old = [row.old_secret] if row.old_secret and row.old_secret_until and now < row.old_secret_until else []
    return [row.secret, *old]


def remove(session: Session, owner: str, id: str) -> bool:
    """With everything that was to be sent to it."""
    row = get(session, owner, id)
    if row is None:
        return False
    mine = select(DELIVERY.c.id).where(DELIVERY.c.endpoint == id)
    session.connection().execute(delete(DELIVERY_ATTEMPT).where(DELIVERY_ATTEMPT.c.delivery.in_(mine)))
    session.connection().execute(delete(DELIVERY).where(DELIVERY.c.endpoint == id))
    session.delete(row)
    return True


def remove_unused(session: Session) -> int:
    """Endpoints whose batches are all gone; how many.

    Locked first and judged afterwards: a create under way, which has locked one, may be giving it a batch.
    """
    used = select(BATCH.c.number).where(BATCH.c.webhook_endpoint == ENDPOINT.c.id).exists()
    owed = select(DELIVERY.c.id).where(DELIVERY.c.endpoint == ENDPOINT.c.id).exists()
    unused = (ENDPOINT.c.of_batches, ~used, ~owed)
    connection = session.connection()
    free = select(ENDPOINT.c.id).where(*unused).limit(MOST_REMOVED).with_for_update(skip_locked=True)
    ids = connection.execute(free).scalars().all()
    return connection.execute(delete(ENDPOINT).where(ENDPOINT.c.id.in_(ids), *unused)).rowcount


def deliveries(session: Session, owner: str, endpoint: str, *, limit: int, batch: str | None = None) -> list[Sent]:
    """Newest first; of one batch if it is named."""
    query = _sent(owner).where(Delivery.endpoint == endpoint)
    if batch is not None:
        query = query.where(Batch.id == batch)
    rows = session.exec(query.order_by(col(Delivery.created_at).desc(), col(Delivery.id)).limit(limit))
    return [Sent(*row) for row in rows]


def delivery(session: Session, owner: str, id: str) -> Sent | None:
    row = session.exec(_sent(owner).where(Delivery.id == id)).first() if ids.is_delivery(id) else None
    return None if row is None else Sent(*row)


def attempts(session: Session, delivery: str) -> list[DeliveryAttempt]:
    query = select_model(DeliveryAttempt).where(DeliveryAttempt.delivery == delivery)
    return list(session.exec(query.order_by(col(DeliveryAttempt.number))))


def replay(session: Session, owner: str, id: str) -> bool:
    """Due at once, with the same id and a fresh schedule. Raises Disabled."""
    row = delivery(session, owner, id)
    if row is None:
        return False
    endpoint = get(session, owner, row.delivery.endpoint)
    if endpoint is not None and endpoint.disabled_at is not None:
        raise Disabled
    session.connection().execute(
        update(DELIVERY)
        .where(DELIVERY.c.id == id)
        .values(state="pending", tries=0, due_at=clock.now(), delivered_at=None)
    )
    session.refresh(row.delivery)
    return True


def _sent(owner: str) -> Any:
    return (
        select_model(Delivery, Event, col(Batch.id))
        .join(Event, col(Event.id) == Delivery.event)
        .join(Batch, col(Batch.number) == Event.batch)
        .where(Delivery.owner == owner)
    )


def _add(session: Session, owner: str, **values: Any) -> WebhookEndpoint:
    now = _now(session)
    row = WebhookEndpoint(
        id=ids.new_webhook_endpoint(),
        owner=owner,
        receiver=target.receiver(values["url"]),
        created_at=now,
        updated_at=now,
        **values,
    )
    session.add(row)
    session.flush()
    return row


def _now(session: Session) -> float:
    return float(session.connection().execute(select(clock.now())).scalar_one())
