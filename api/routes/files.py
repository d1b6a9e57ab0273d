"""/v1/files."""

import hashlib
import json
import logging
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from sqlmodel import Session
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from api import errors, faults, idempotency, present, schemas, uploads
from api.deps import CallerDep, ServicesDep
from api.services import Services
from worker import erasure, output_files
from worker.blobs import Blob, BlobError
from worker.output_files import OutputFile
from worker.store import files, listing
from worker.store.listing import Entry

log = logging.getLogger("gristmill.api")

router = APIRouter(prefix="/v1/files", tags=["files"])

UPLOAD: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": {"type": "string", "enum": list(uploads.PURPOSES)},
                        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
                        "expires_after[seconds]": {
                            "type": "integer",
                            "minimum": uploads.SHORTEST_EXPIRY,
                            "maximum": uploads.LONGEST_EXPIRY,
                        },
                    },
                }
            }
        },
    }
}


@router.post(
    "",
    openapi_extra=UPLOAD,
    response_model=schemas.File,
    responses=schemas.error_responses(400, 408, 413, 415, 422, 507),
)
async def upload(request: Request, services: ServicesDep, caller: CallerDep, said: idempotency.SaidDep) -> Response:
    """Stored as it is; its lines are checked when a batch is made of it.

    Sent again with the same Idempotency-Key and the same bytes, it answers with the first file.
    """
    uploaded = await uploads.receive(
        request, services.blobs, openai_limits=services.openai_limits, stall_seconds=services.stall_seconds
    )
    return await run_in_threadpool(_add, services, caller.owner, uploaded, said)


@router.get("", responses=schemas.error_responses(400))
def list_files(
    services: ServicesDep,
    caller: CallerDep,
    purpose: Annotated[str | None, Query(pattern=r"^[\x20-\x7e]{0,64}$")] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    order: Literal["asc", "desc"] = "desc",
    after: str | None = None,
) -> schemas.FileList:
    """Uploaded files, and the output and error files of batches at rest."""
    with services.database.read() as session:
        cursor = _entry(services, caller.owner, after) if after is not None else None
        if after is not None and cursor is None:
            raise errors.BadRequest("'after' is not the id of a file.", param="after", code="invalid_cursor")
        rows = listing.page(
            session,
            caller.owner,
            limit=limit + 1,
            newest_first=order == "desc",
            purpose=purpose,
            after=cursor,
        )
    page = rows[:limit]
    return schemas.FileList(
        data=[present.file(entry) for entry in page],
        first_id=page[0].id if page else None,
        last_id=page[-1].id if page else None,
        has_more=len(rows) > limit,
    )


@router.get("/{file_id}", responses=schemas.error_responses(404))
def retrieve(file_id: str, services: ServicesDep, caller: CallerDep) -> schemas.File:
    entry = _entry(services, caller.owner, file_id)
    if entry is None:
        raise _missing(file_id)
    return present.file(entry)


@router.delete("/{file_id}", responses=schemas.error_responses(404, 409))
def delete(file_id: str, services: ServicesDep, caller: CallerDep) -> schemas.FileDeleted:
    """Hidden at once. The bytes of an input file stay until no batch needs them."""
    try:
        deleted = services.database.write(
            lambda session: (
                files.delete(session, caller.owner, file_id) or output_files.delete(session, caller.owner, file_id)
            )
        )
    except output_files.Unfinished:
        raise errors.Conflict("The file is still being written: its batch has not ended.", param="id") from None
    if not deleted:
        raise _missing(file_id)
    try:
        erasure.erase(services.database, services.blobs)
    except BlobError:
        log.warning("the bytes of deleted files could not be erased yet", exc_info=True)
    return schemas.FileDeleted(id=file_id)


@router.get("/{file_id}/content", response_class=Response, responses=schemas.error_responses(400, 404))
def content(
    file_id: str,
    services: ServicesDep,
    caller: CallerDep,
    order: Literal["line"] | None = None,
    offset: Annotated[int | None, Query(ge=0, le=schemas.INTEGER)] = None,
) -> Response:
    """The bytes. Of a batch that still runs: its lines so far, as they came or (``order=line``) as they were asked."""
    with services.database.read() as session:
        file = files.get(session, caller.owner, file_id)
        output = None if file else output_files.find(session, caller.owner, file_id)
    if file is not None:
        blob = services.blobs.open(file.id)
        return _streamed(_blob_chunks(blob), {"content-length": str(blob.size)})
    if output is None:
        raise _missing(file_id)
    return _output(services, output, order, offset)


def _output(services: Services, output: OutputFile, order: Literal["line"] | None, offset: int | None) -> Response:
    """Headers as other batch servers send them: X-Last-Line is the ``offset`` at which the next request goes on."""
    headers = {"x-incomplete": "false" if output.complete else "true", "x-last-line": str(output.lines)}
    if order == "line" and offset is not None:
        raise errors.BadRequest("'offset' counts lines as they came, not as they were asked.", param="offset")
    if order == "line" or (output.complete and offset is None):
        return _streamed(output_files.in_line_order(services.database, output), headers)
    return _streamed(output_files.in_commit_order(services.database, output, offset=offset or 0), headers)


def _streamed(chunks: Iterator[bytes], headers: dict[str, str]) -> Response:
    return StreamingResponse(chunks, media_type="application/octet-stream", headers=headers)


def _blob_chunks(blob: Blob) -> Iterator[bytes]:
    with blob:
        yield from blob.chunks()


def _add(services: Services, owner: str, uploaded: uploads.Uploaded, said: idempotency.Fingerprint) -> Response:
    """The bytes of an upload that was sent twice go at once."""

    def execute(session: Session) -> schemas.File:
        file = files.add(
            session,
            id=uploaded.id,
            owner=owner,
            purpose=uploaded.purpose,
            filename=uploaded.filename,
            size=uploaded.size,
            sha256=uploaded.sha256,
            expires_after=uploaded.expires_after,
        )
        return present.file(listing.upload_entry(file))

    try:
        answer = idempotency.create(services.database, said(_fingerprint(uploaded)), execute)
    except errors.KeyReused:
        services.blobs.remove(uploaded.id)
        raise
    if not answer.is_new:
        services.blobs.remove(uploaded.id)
    return idempotency.response(answer)


def _fingerprint(uploaded: uploads.Uploaded) -> str:
    """Of what the form said, whatever its boundary and order."""
    said = (uploaded.purpose, uploaded.filename, uploaded.expires_after, uploaded.size, uploaded.sha256)
    return f"/v1/files {hashlib.sha256(json.dumps(said).encode()).hexdigest()}"


def _entry(services: Services, owner: str, id: str) -> Entry | None:
    with services.database.read() as session:
        file = files.get(session, owner, id)
        if file is not None:
            return listing.upload_entry(file)
        output = output_files.find(session, owner, id)
        return output.entry if output else None


def _missing(id: str) -> errors.NotFound:
    return errors.NotFound(f"No such File object: {faults.shown(id)}", param="id")
