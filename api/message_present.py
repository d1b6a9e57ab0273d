"""From rows to what Anthropic's clients see."""

from datetime import UTC, datetime

from sqlmodel import Session

from api import message_schemas, present
from worker import states
from worker.states import Stop
from worker.store import listing, message_batches
from worker.store.progress import Progress
from worker.tables import Batch


def batch(session: Session, row: Batch, progress: Progress, base_url: str) -> message_schemas.MessageBatch:
    """``base_url`` is where the client found us: it sends its key to ``results_url``."""
    has_ended = row.status in states.AT_REST
    return message_schemas.MessageBatch(
        id=row.id,
        processing_status=_status(row),
        request_counts=_counts(session, row),
        created_at=_moment(row.created_at) or "",
        expires_at=_moment(row.expires_at),
        ended_at=_moment(listing.ended_at(row)),
        cancel_initiated_at=_moment(row.cancelling_at),
        results_url=f"{base_url.rstrip('/')}/v1/messages/batches/{row.id}/results" if has_ended else None,
        gristmill=present.batch(row, progress).gristmill,
    )


def _status(row: Batch) -> message_schemas.Status:
    if row.status in states.AT_REST:
        return "ended"
    return "canceling" if row.stop == Stop.CANCEL else "in_progress"


def _counts(session: Session, row: Batch) -> message_schemas.RequestCounts:
    if row.status not in states.AT_REST:
        return message_schemas.RequestCounts(
            processing=message_batches.size(row), succeeded=0, errored=0, canceled=0, expired=0
        )
    ended = message_batches.endings(session, row)
    return message_schemas.RequestCounts(
        processing=0,
        succeeded=ended.succeeded,
        errored=ended.errored,
        canceled=ended.canceled,
        expired=ended.expired,
    )


def _moment(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
