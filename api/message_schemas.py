"""What Anthropic's clients read of a Message Batch."""

from typing import Any, Literal

from pydantic import BaseModel

from api import schemas

Status = Literal["in_progress", "canceling", "ended"]


class RequestCounts(BaseModel):
    """All are ``processing`` until the whole batch has ended."""

    processing: int
    succeeded: int
    errored: int
    canceled: int
    expired: int


class MessageBatch(BaseModel):
    """Moments are RFC 3339. ``gristmill`` is ours: cost, models, and why lines wait."""

    id: str
    type: Literal["message_batch"] = "message_batch"
    processing_status: Status
    request_counts: RequestCounts
    created_at: str
    expires_at: str | None
    ended_at: str | None
    cancel_initiated_at: str | None
    archived_at: None = None
    results_url: str | None
    gristmill: schemas.BatchProgress


class MessageBatchList(BaseModel):
    data: list[MessageBatch]
    first_id: str | None
    last_id: str | None
    has_more: bool


class MessageBatchDeleted(BaseModel):
    id: str
    type: Literal["message_batch_deleted"] = "message_batch_deleted"


class ErrorBody(BaseModel):
    type: str
    message: str


class Error(BaseModel):
    """Every answer that is not 2xx."""

    type: Literal["error"] = "error"
    error: ErrorBody
    request_id: str | None


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For the OpenAPI document."""
    return {status: {"model": Error} for status in statuses}
