"""Deletion of batches at rest: hidden at once; the rows go afterwards, in portions (store/erasing.py).

DeletionError
 └ NotAtRest
"""

from sqlalchemy import select
from sqlmodel import Session

from worker import clock, states
from worker.states import Kind
from worker.store import batches, files
from worker.tables import Batch


class DeletionError(Exception):
    """The batch cannot be deleted."""


class NotAtRest(DeletionError):
    """The batch has not ended."""

    def __init__(self, status: str) -> None:
        super().__init__(status)
        self.status = status


def delete(session: Session, owner: str, id: str, *, with_input: bool = False) -> bool:
    """Hide the batch for ever, and its input file if that is asked for. False if it is not there. Raises NotAtRest."""
    batch = batches.lock(session, owner, id)
    if batch is None:
        return False
    if batch.status not in states.AT_REST:
        raise NotAtRest(batch.status)
    hide(session, batch, with_input=with_input)
    return True


def hide(session: Session, batch: Batch, *, with_input: bool = False) -> None:
    """The caller has locked the batch and seen it at rest. An input that no client uploaded goes with it."""
    now = float(session.connection().execute(select(clock.now())).scalar_one())
    batch.deleted_at = batch.due_at = now
    session.add(batch)
    session.flush()
    if with_input or batch.kind != Kind.BATCH:
        files.delete(session, batch.owner, batch.input_file_id)
