"""The create of a Message Batch, streamed into the file store as an input file."""

from anyio import to_thread
from starlette.requests import Request

from api import errors, uploads
from api.message_requests import MOST_BYTES, Requests
from api.uploads import Uploaded
from worker import ids
from worker.blobs import Blobs

FILENAME = "message_batch.jsonl"


async def receive(request: Request, blobs: Blobs, *, stall_seconds: float) -> tuple[Uploaded, int]:
    """The stored input file, and how many requests it holds. Raises ApiError or BlobError, and nothing is left."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > MOST_BYTES:
        raise _too_large()
    requests = Requests()
    name = ids.new_file()
    with await to_thread.run_sync(blobs.create, name) as upload:

        def take(chunk: bytes) -> None:
            upload.write(requests.feed(chunk))

        size = 0
        pending = bytearray()
        async for chunk in uploads.chunks(request, stall_seconds):
            size += len(chunk)
            pending += chunk
            if size > MOST_BYTES:
                raise _too_large()
            if len(pending) >= uploads.BUFFER:
                await to_thread.run_sync(take, bytes(pending))
                pending.clear()
        await to_thread.run_sync(take, bytes(pending))
        requests.finish()
        sha256 = await to_thread.run_sync(upload.finish)
    stored = Uploaded(id=name, purpose="batch", filename=FILENAME, size=upload.size, sha256=sha256, expires_after=None)
    return stored, requests.count


def _too_large() -> errors.ApiError:
    return errors.PayloadTooLarge(f"A batch may have at most {MOST_BYTES} bytes")
