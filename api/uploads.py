"""An upload, streamed into the file store: parts in any order, with or without a length, never in memory."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from anyio import to_thread
from starlette.requests import Request

from api import errors, faults
from api.multipart import Form
from worker import ids
from worker.blobs import Blobs

PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
SHORTEST_EXPIRY, LONGEST_EXPIRY = 3_600, 2_592_000
BUFFER = 1 << 20
FORM_OVERHEAD = 64 << 10
"""Bytes that the form around a file may have at most."""

OPENAI_BATCH_BYTES, OPENAI_BYTES = 200 << 20, 512 << 20
"""OpenAI's limits for the purpose batch, and for any other."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Uploaded:
    """A file whose bytes are stored and durable, and that nobody knows of yet."""

    id: str
    purpose: str
    filename: str
    size: int
    sha256: str
    expires_after: int | None


async def receive(request: Request, blobs: Blobs, *, openai_limits: bool, stall_seconds: float) -> Uploaded:
    """Read the request to its end. Raises ApiError or BlobError, and then nothing is left of it."""
    form = Form(request.headers.get("content-type", ""))
    if openai_limits:
        _check_length(request)
    name = ids.new_file()
    with await to_thread.run_sync(blobs.create, name) as upload:
        async for chunk in chunks(request, stall_seconds):
            form.feed(chunk)
            if openai_limits:
                _check_size(form, upload.size + form.pending_bytes)
            if form.pending_bytes >= BUFFER:
                await to_thread.run_sync(upload.write, form.take())
        form.finish()
        purpose, expires_after = _purpose(form), _expires_after(form)
        await to_thread.run_sync(upload.write, form.take())
        sha256 = await to_thread.run_sync(upload.finish)
    return Uploaded(
        id=name,
        purpose=purpose,
        filename=form.filename or "upload",
        size=upload.size,
        sha256=sha256,
        expires_after=expires_after,
    )


async def chunks(request: Request, stall_seconds: float) -> AsyncIterator[bytes]:
    """A slow upload lives as long as it moves. Raises RequestTimeout or ClientDisconnect."""
    stream = request.stream()
    while True:
        try:
            chunk = await asyncio.wait_for(anext(stream, None), stall_seconds)
        except TimeoutError:
            message = f"The upload brought no byte for {stall_seconds:g} seconds."
            raise errors.RequestTimeout(message, code="upload_stalled") from None
        if chunk is None:
            return
        yield chunk


def _check_length(request: Request) -> None:
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > OPENAI_BYTES + FORM_OVERHEAD:
        raise _too_large(OPENAI_BYTES)


def _check_size(form: Form, size: int) -> None:
    """Some clients send the purpose last: until then the greater limit holds."""
    limit = OPENAI_BATCH_BYTES if form.fields.get("purpose") == "batch" else OPENAI_BYTES
    if size > limit:
        raise _too_large(limit)


def _too_large(limit: int) -> errors.ApiError:
    return errors.PayloadTooLarge(f"The file is larger than {limit} bytes.", param="file", code="file_too_large")


def _purpose(form: Form) -> str:
    purpose = form.fields.get("purpose")
    if purpose is None:
        raise errors.BadRequest(
            "Missing required parameter: 'purpose'.", param="purpose", code="missing_required_parameter"
        )
    if purpose not in PURPOSES:
        raise errors.BadRequest(
            f"'{faults.shown(purpose)}' is not one of {', '.join(PURPOSES)}.", param="purpose", code="invalid_value"
        )
    return purpose


def _expires_after(form: Form) -> int | None:
    anchor, seconds = (form.fields.get(f"expires_after[{name}]") for name in ("anchor", "seconds"))
    if anchor is None and seconds is None:
        return None
    if anchor != "created_at":
        raise errors.BadRequest("The anchor must be 'created_at'.", param="expires_after.anchor", code="invalid_value")
    if seconds is None or not (seconds.isascii() and seconds.isdecimal() and len(seconds) < 10):
        raise errors.BadRequest("Must be whole seconds.", param="expires_after.seconds", code="invalid_type")
    if not SHORTEST_EXPIRY <= int(seconds) <= LONGEST_EXPIRY:
        message = f"Must be from {SHORTEST_EXPIRY} to {LONGEST_EXPIRY}."
        raise errors.BadRequest(message, param="expires_after.seconds", code="invalid_value")
    return int(seconds)
