"""Rows that would grow without end, and that nobody asks for a month later."""

from sqlalchemy import delete, func, select
from sqlmodel import Session

from worker import clock, ids
from worker.tables import BATCH, DELIVERY, DELIVERY_ATTEMPT, FILE

SECONDS = 30 * 86_400.0
ROWS = 200
UPLOAD_ID = len(ids.new_file())
"""Ids of output files are longer; their rows hide them for as long as their batch is there."""


def deliveries(session: Session) -> int:
    """Some webhook deliveries that came to their end long ago, with their tries; how many."""
    connection = session.connection()
    ended = select(DELIVERY.c.id).where(DELIVERY.c.due_at.is_(None), DELIVERY.c.created_at < clock.now() - SECONDS)
    some = list(connection.execute(ended.limit(ROWS)).scalars())
    if some:
        connection.execute(delete(DELIVERY_ATTEMPT).where(DELIVERY_ATTEMPT.c.delivery.in_(some)))
        connection.execute(delete(DELIVERY).where(DELIVERY.c.id.in_(some)))
    return len(some)


def files(session: Session) -> int:
    """Some rows of uploads whose bytes were erased long ago and that no batch names; how many."""
    named = select(BATCH.c.number).where(BATCH.c.input_file_id == FILE.c.id).exists()
    old = select(FILE.c.id).where(FILE.c.erased_at < clock.now() - SECONDS, func.length(FILE.c.id) == UPLOAD_ID, ~named)
    some = list(session.connection().execute(old.limit(ROWS)).scalars())
    if some:
        session.connection().execute(delete(FILE).where(FILE.c.id.in_(some)))
    return len(some)
