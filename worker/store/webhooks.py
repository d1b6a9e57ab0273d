"""Webhook endpoints as their owner sees them."""

from sqlalchemy import delete, or_, select, update
from sqlmodel import Session, col
from sqlmodel import select as select_model

from worker import clock, ids
from worker.tables import DELIVERY, DELIVERY_ATTEMPT
from worker.tables.webhooks import Delivery, DeliveryAttempt, WebhookEndpoint
from worker.webhooks import signature

ROTATION_SECONDS = 86_400.0


def create(session: Session, owner: str, *, name: str, url: str, event_types: list[str]) -> WebhookEndpoint:
    """With a new secret."""
    now = _now(session)
    row = WebhookEndpoint(
        id=ids.new_webhook_endpoint(),
        owner=owner,
        name=name,
        url=url,
        event_types=event_types,
        secret=signature.new_secret(),
        created_at=now,
        updated_at=now,
    )
    session.add(row)
    session.flush()
    return row


def get(session: Session, owner: str, id: str) -> WebhookEndpoint | None:
    if not ids.is_webhook_endpoint(id):
        return None
    query = select_model(WebhookEndpoint).where(WebhookEndpoint.id == id, WebhookEndpoint.owner == owner)
    return session.exec(query.with_for_update()).first()


def page(session: Session, owner: str, *, limit: int, after: WebhookEndpoint | None = None) -> list[WebhookEndpoint]:
    """Newest first."""
    made, id = col(WebhookEndpoint.created_at), col(WebhookEndpoint.id)
    query = select_model(WebhookEndpoint).where(WebhookEndpoint.owner == owner).order_by(made.desc(), id.desc())
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
    row.disabled_at = row.rests_until = None
    session.flush()
    return row


def rotate(session: Session, owner: str, id: str, *, keep_old: bool) -> WebhookEndpoint | None:
    """A new secret; the old one may sign beside it for a day."""
    row = get(session, owner, id)
    if row is None:
        return None
    now = _now(session)
    row.old_secret, row.old_secret_until = (row.secret, now + ROTATION_SECONDS) if keep_old else (None, None)
    row.secret, row.updated_at = signature.new_secret(), now
    session.flush()
    return row


def secrets(row: WebhookEndpoint, now: float) -> list[str]:
    """Those that sign at ``now``, the newest first."""
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


def deliveries(session: Session, owner: str, endpoint: str, *, limit: int) -> list[Delivery]:
    """Newest first."""
    query = select_model(Delivery).where(Delivery.owner == owner, Delivery.endpoint == endpoint)
    return list(session.exec(query.order_by(col(Delivery.created_at).desc(), col(Delivery.id)).limit(limit)))


def attempts(session: Session, delivery: str) -> list[DeliveryAttempt]:
    query = select_model(DeliveryAttempt).where(DeliveryAttempt.delivery == delivery)
    return list(session.exec(query.order_by(col(DeliveryAttempt.number))))


def replay(session: Session, owner: str, id: str) -> Delivery | None:
    """Due at once, with the same id and a fresh schedule."""
    if not ids.is_delivery(id):
        return None
    mine = (DELIVERY.c.id == id, DELIVERY.c.owner == owner)
    session.connection().execute(
        update(DELIVERY).where(*mine).values(state="pending", tries=0, due_at=clock.now(), delivered_at=None)
    )
    return session.exec(select_model(Delivery).where(Delivery.id == id, Delivery.owner == owner)).first()


def _now(session: Session) -> float:
    return float(session.connection().execute(select(clock.now())).scalar_one())
