"""Output and error files that were asked to expire: hidden at their time, erased afterwards, their counts kept.

ExpiryError
 └ Gone
"""

from sqlalchemy import ColumnElement, case, select, update
from sqlmodel import Session, col

from worker import clock, states
from worker.states import BatchStatus, Kind
from worker.store import batches, erasing
from worker.store.slices import lock_batches
from worker.tables import BATCH, Batch


class ExpiryError(Exception):
    """The bytes cannot be read any more."""


class Gone(ExpiryError):
    """The batch was deleted, or its files expired, while they were read: what was read of them is not the whole."""


def ended() -> ColumnElement[float | None]:
    """When the batch came to rest; NULL while it has not."""
    return case(
        (col(Batch.status) == BatchStatus.COMPLETED, col(Batch.completed_at)),
        (col(Batch.status) == BatchStatus.EXPIRED, col(Batch.expired_at)),
        (col(Batch.status) == BatchStatus.CANCELLED, col(Batch.cancelled_at)),
        (col(Batch.status) == BatchStatus.FAILED, col(Batch.failed_at)),
    )


def expires() -> ColumnElement[float | None]:
    """When the files of the present generation go; NULL: never, or not known yet."""
    return ended() + col(Batch.output_expires_after)


def check(session: Session, number: int) -> None:
    """After a read: whatever was there then had not been erased. Raises Gone."""
    statement = select(expires() <= clock.now()).where(BATCH.c.number == number, batches.visible())
    row = session.connection().execute(statement).one_or_none()
    if row is None or row[0]:
        raise Gone


def due(session: Session) -> int | None:
    """A batch whose files have expired and are not erased yet."""
    statement = select(BATCH.c.number).where(
        BATCH.c.status.in_(states.AT_REST),
        BATCH.c.kind.in_((Kind.BATCH, Kind.MESSAGES)),
        BATCH.c.output_expires_after.is_not(None),
        BATCH.c.outputs_erased_at.is_(None),
        *_expired(),
    )
    return session.connection().execute(statement.limit(1)).scalar_one_or_none()


def erase_some(session: Session, number: int) -> bool:
    """One portion of the expired lines of a batch. False when none is left."""
    lock_batches(session, [number])
    mine = (BATCH.c.number == number, *_expired())
    connection = session.connection()
    if connection.execute(select(BATCH.c.number).where(*mine)).first() is None:
        return False
    if erasing.erase_results(session, number):
        return True
    connection.execute(update(BATCH).where(*mine).values(outputs_erased_at=clock.now()))
    return False


def _expired() -> tuple[ColumnElement[bool], ...]:
    return batches.visible(), expires() <= clock.now()
