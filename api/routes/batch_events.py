"""/v1/batches/{id}/events: how a batch goes, as server-sent events."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Header
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from api import batch_answer, schemas
from api.deps import CallerDep, ServicesDep
from api.services import Services
from worker import states
from worker.database import DatabaseAway
from worker.store import batches

LOOK_SECONDS = 1.0
"""Between two events there is at least as much."""
KEEP_ALIVE_SECONDS = 15.0
KIND = "text/event-stream"
HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}
"""No proxy may hold events back."""

router = APIRouter(prefix="/v1/batches", tags=["batches"])


@dataclass(frozen=True, kw_only=True, slots=True)
class _State:
    """``id`` is equal for equal states."""

    id: str
    data: str
    is_last: bool


@router.get(
    "/{batch_id}/events",
    response_class=StreamingResponse,
    responses={200: {"content": {KIND: {}}}, **schemas.error_responses(404)},
)
async def events(
    batch_id: str,
    services: ServicesDep,
    caller: CallerDep,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """An event ``batch`` with the batch object whenever it has changed, once a second at most, until it is at rest.

    Whoever comes back knowing the last state is answered 204, so that browsers do not come back once more.
    """
    state = await run_in_threadpool(_look, services, caller.owner, batch_id)
    if state is None:
        batch_answer.found(None, batch_id)
    elif state.is_last and state.id == last_event_id:
        return Response(status_code=204)
    return StreamingResponse(_stream(services, caller.owner, batch_id, last_event_id), media_type=KIND, headers=HEADERS)


async def _stream(services: Services, owner: str, id: str, seen: str | None) -> AsyncIterator[str]:
    """Ends when the batch is at rest or gone, or the server stops; is cancelled when the client goes."""
    spoke_at = time.monotonic()
    while not services.is_stopping():
        try:
            state = await run_in_threadpool(_look, services, owner, id)
        except DatabaseAway:
            pass  # the next look will tell
        else:
            if state is None:
                return
            if state.id != seen:
                yield f"event: batch\nid: {state.id}\ndata: {state.data}\n\n"
                seen, spoke_at = state.id, time.monotonic()
            if state.is_last:
                return
        if time.monotonic() - spoke_at >= KEEP_ALIVE_SECONDS:
            yield ": nothing new\n\n"
            spoke_at = time.monotonic()
        await asyncio.sleep(LOOK_SECONDS)


def _look(services: Services, owner: str, id: str) -> _State | None:
    with services.database.read() as session:
        row = batches.get(session, owner, id)
        if row is None:
            return None
        shown = batch_answer.shown_in(session, services, row, errors=batch_answer.ERRORS_LISTED)
    told = shown.model_dump_json(exclude={"gristmill": {"eta_at", "eta_seconds"}})  # time passes without news
    return _State(
        id=hashlib.sha256(told.encode()).hexdigest()[:16],
        data=shown.model_dump_json(),
        is_last=shown.status in states.AT_REST,
    )
