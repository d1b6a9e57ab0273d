"""The secret of an owner, with which the webhooks of his batches are signed."""

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlmodel import Session

from worker import clock
from worker.tables import WEBHOOK_SECRET, WebhookSecret
from worker.webhooks import signature

ROTATION_SECONDS = 86_400.0
"""So long an old secret may sign beside the new one."""


def of(session: Session, owner: str) -> WebhookSecret:
    """Made when it is first asked for."""
    found = session.get(WebhookSecret, owner)
    if found is not None:
        return found
    now = _now(session)
    insert = sqlite_insert if session.connection().dialect.name == "sqlite" else postgres_insert
    values = {"owner": owner, "secret": signature.new_secret(), "created_at": now, "updated_at": now}
    session.connection().execute(insert(WEBHOOK_SECRET).values(values).on_conflict_do_nothing(index_elements=["owner"]))
    return session.get_one(WebhookSecret, owner)


def rotate(session: Session, owner: str, *, keep_old: bool) -> WebhookSecret:
    """A new secret; the old one may sign beside it for a day."""
    of(session, owner)
    row = session.get_one(WebhookSecret, owner, with_for_update=True, populate_existing=True)
    now = _now(session)
    row.old_secret, row.old_secret_until = (row.secret, now + ROTATION_SECONDS) if keep_old else (None, None)
    row.secret, row.updated_at = signature.new_secret(), now
    session.flush()
    return row


def _now(session: Session) -> float:
    return float(session.connection().execute(select(clock.now())).scalar_one())
