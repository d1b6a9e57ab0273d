"""/v1/messages/batches: Anthropic's Message Batches, for any model."""

from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Header, Query, Request
from sqlmodel import Session
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from api import batch_answer, errors, faults, idempotency, message_present, message_requests, message_uploads
from api import message_schemas as schemas
from api.deps import CallerDep, ServicesDep
from api.keyring import Caller
from api.services import Services
from api.uploads import Uploaded
from worker import output_files, states, windows
from worker.states import Kind
from worker.store import batches, deletion, files, message_batches, progress
from worker.store.batches import AtRest, NewBatch
from worker.store.idempotency import Answer
from worker.tables import Batch

PATH = "/v1/messages/batches"
WINDOW = "24h"

router = APIRouter(prefix=PATH, tags=["message batches"])

BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["requests"],
                    "properties": {
                        "requests": {
                            "type": "array",
                            "maxItems": message_requests.MOST_REQUESTS,
                            "items": {
                                "type": "object",
                                "required": ["custom_id", "params"],
                                "properties": {
                                    "custom_id": {"type": "string", "pattern": "^[a-zA-Z0-9_-]{1,64}$"},
                                    "params": {"type": "object"},
                                },
                            },
                        }
                    },
                }
            }
        },
    }
}


@router.post(
    "",
    openapi_extra=BODY,
    response_model=schemas.MessageBatch,
    responses=schemas.error_responses(400, 408, 413, 415, 422, 507),
)
async def create(
    request: Request,
    services: ServicesDep,
    caller: CallerDep,
    background: BackgroundTasks,
    said: idempotency.SaidDep,
    x_stainless_retry_count: Annotated[str, Header()] = "0",
) -> Response:
    """Start a batch. The body is streamed to the file store; what is wrong with one request's params is its result.

    Sent again with the same Idempotency-Key and the same bytes, it answers with the first batch.
    """
    stored, count = await message_uploads.receive(request, services.blobs, stall_seconds=services.stall_seconds)
    resent = x_stainless_retry_count.isdecimal() and int(x_stainless_retry_count[:9]) >= 1
    creation = _Creation(services, caller, stored, count, str(request.base_url))
    answer = await run_in_threadpool(creation.run, said, resent)
    if creation.begun is not None:
        background.add_task(services.doorbell.ring_intake, creation.begun)
    return idempotency.response(answer)


@router.get("", responses=schemas.error_responses(400))
def list_batches(
    request: Request,
    services: ServicesDep,
    caller: CallerDep,
    after_id: str | None = None,
    before_id: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 20,
) -> schemas.MessageBatchList:
    """Newest first: those behind ``after_id``, or the last ones before ``before_id``."""
    if after_id is not None and before_id is not None:
        raise errors.BadRequest("Only one of after_id and before_id may be given")
    with services.database.read() as session:
        after = _cursor(session, caller, "after_id", after_id)
        before = _cursor(session, caller, "before_id", before_id)
        rows = batches.page(session, caller.owner, limit=limit + 1, after=after, before=before, kind=Kind.MESSAGES)
        page = rows[-limit:] if before is not None else rows[:limit]
        data = _shown(session, services, page, str(request.base_url))
    return schemas.MessageBatchList(
        data=data,
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
        has_more=len(rows) > limit,
    )


@router.get("/{batch_id}", responses=schemas.error_responses(404))
def retrieve(batch_id: str, request: Request, services: ServicesDep, caller: CallerDep) -> schemas.MessageBatch:
    with services.database.read() as session:
        row = _found(session, caller, batch_id)
        return _shown(session, services, [row], str(request.base_url))[0]


@router.post("/{batch_id}/cancel", responses=schemas.error_responses(400, 404))
def cancel(batch_id: str, request: Request, services: ServicesDep, caller: CallerDep) -> schemas.MessageBatch:
    """No further call starts; those in flight may end, and what they bring is kept."""

    def change(session: Session) -> schemas.MessageBatch:
        _found(session, caller, batch_id)
        row = batches.request_cancel(session, caller.owner, batch_id)
        assert row is not None
        return _shown(session, services, [row], str(request.base_url))[0]

    try:
        return services.database.write(change)
    except AtRest:
        raise errors.BadRequest(f"{batch_id} has ended: it cannot be canceled any more") from None


@router.get("/{batch_id}/results", response_class=Response, responses=schemas.error_responses(400, 404))
def results(batch_id: str, services: ServicesDep, caller: CallerDep) -> Response:
    """JSONL in the order of the requests, the same bytes every time."""
    with services.database.read() as session:
        row = _found(session, caller, batch_id)
    if row.status not in states.AT_REST:
        raise errors.BadRequest(f"{batch_id} has not ended: its results are there when processing_status is 'ended'")
    return StreamingResponse(output_files.whole(services.database, row), media_type="application/x-jsonl")


@router.delete("/{batch_id}", responses=schemas.error_responses(400, 404))
def delete(batch_id: str, services: ServicesDep, caller: CallerDep) -> schemas.MessageBatchDeleted:
    """Gone at once, with its requests and results; what it used and cost stays in /v1/usage."""

    def change(session: Session) -> None:
        _found(session, caller, batch_id)
        deletion.delete(session, caller.owner, batch_id)

    try:
        services.database.write(change)
    except deletion.NotAtRest:
        raise errors.BadRequest(f"{batch_id} has not ended: cancel it, and delete it when it has") from None
    return schemas.MessageBatchDeleted(id=batch_id)


class _Creation:
    """One create whose requests are stored: a file, and the batch that reads it, in one transaction."""

    def __init__(self, services: Services, caller: Caller, stored: Uploaded, count: int, base_url: str) -> None:
        self.begun: int | None = None
        self._services = services
        self._caller = caller
        self._stored = stored
        self._count = count
        self._base_url = base_url
        self._fingerprint = f"{PATH} {stored.sha256}"

    def run(self, said: idempotency.Fingerprint, resent: bool) -> Answer:
        """The bytes of a create that was sent twice go at once."""
        keyed = said(self._fingerprint)
        try:
            return idempotency.create(
                self._services.database, keyed, lambda session: self._execute(session, resent and keyed is None)
            )
        finally:
            if self.begun is None:
                self._services.blobs.remove(self._stored.id)

    def _execute(self, session: Session, resent: bool) -> schemas.MessageBatch:
        stored, owner = self._stored, self._caller.owner
        files.add(
            session,
            id=stored.id,
            owner=owner,
            purpose=stored.purpose,
            filename=stored.filename,
            size=stored.size,
            sha256=stored.sha256,
        )
        row, is_new = batches.create(session, self._new(), resent=resent)
        if not is_new:
            files.delete(session, owner, stored.id)
        self.begun = row.number if is_new else None
        return _shown(session, self._services, [row], self._base_url)[0]

    def _new(self) -> NewBatch:
        return NewBatch(
            owner=self._caller.owner,
            api_key=self._caller.api_key,
            kind=Kind.MESSAGES,
            endpoint="/v1/messages",
            input_file_id=self._stored.id,
            completion_window=WINDOW,
            window_seconds=windows.seconds(WINDOW, standard=self._services.day_window_seconds),
            fingerprint=self._fingerprint,
            metadata={message_batches.REQUESTS: str(self._count)},
            invalid_lines="report",
        )


def _found(session: Session, caller: Caller, id: str) -> Batch:
    """Raises NotFound."""
    row = batches.get(session, caller.owner, id)
    if row is None or row.kind != Kind.MESSAGES:
        raise errors.NotFound(f"No message batch found with id '{faults.shown(id)}'")
    return row


def _cursor(session: Session, caller: Caller, name: str, id: str | None) -> int | None:
    if id is None:
        return None
    row = batches.get(session, caller.owner, id)
    if row is None or row.kind != Kind.MESSAGES:
        raise errors.BadRequest(f"{name} is not the id of a message batch")
    return row.number


def _shown(session: Session, services: Services, rows: list[Batch], base_url: str) -> list[schemas.MessageBatch]:
    known = progress.of(session, rows, scopes_of=batch_answer.scopes_of(services), errors=0)
    return [message_present.batch(session, row, known[row.number or 0], base_url) for row in rows]
