"""/v1/chat/completions, /v1/completions and /v1/embeddings: one request, held until its answer is there."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse
from typing_extensions import override

from api import deps, errors, held_calls, idempotency, replay, schemas
from api.deps import CallerDep, ServicesDep
from api.held_calls import HolderDep, OptionsDep
from api.holder import Holder, Stopping
from api.price_memory import NotAtHand, TokenPrices
from worker import output_line
from worker.output_line import Said
from worker.store import idempotency as store
from worker.store.held import Held, NewHeld

KEEP_ALIVE_SECONDS = 10.0
"""A stream whose answer is not there by then begins with comments; until then its status can still be an error's."""
CLIENT_GONE = 499
RETRIED = frozenset({408, 409, 429})
"""Statuses at which, as at 5xx, SDKs would try again what was tried here often enough."""

_Checked = tuple[NewHeld, store.Said | None]

CAREFUL = ("x-gristmill-window", "x-gristmill-max-cost", "x-gristmill-allow-fallback", "idempotency-key")
"""Headers of which most calls have none."""


class QuickRoute(APIRoute):
    """Calls without headers of ours go straight on: solving FastAPI's dependencies would cost them 0.25 ms each."""

    @override
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        careful, url = super().get_route_handler(), self.path

        async def handle(request: Request) -> Response:
            headers = request.headers
            if headers.get("x-stainless-retry-count", "0") != "0" or any(name in headers for name in CAREFUL):
                return await careful(request)
            services, caller = await deps.services(request), await deps.caller(request)
            holder = await held_calls.holder(request)
            return await _Call(url, request, services, caller, holder, held_calls.Options(), lambda _: None).hold()

        return handle


router = APIRouter(prefix="/v1", tags=["held"], route_class=QuickRoute)
ERRORS = schemas.error_responses(400, 404, 422)


@router.post("/chat/completions", responses=ERRORS)
async def chat_completions(
    request: Request,
    services: ServicesDep,
    caller: CallerDep,
    holder: HolderDep,
    options: OptionsDep,
    said: idempotency.SaidDep,
) -> Response:
    """A chat completion. With ``stream`` the stored answer is replayed. Sent again with the same Idempotency-Key, it is
    answered as the first time, whatever became of that connection."""
    return await _Call("/v1/chat/completions", request, services, caller, holder, options, said).hold()


@router.post("/completions", responses=ERRORS)
async def completions(
    request: Request,
    services: ServicesDep,
    caller: CallerDep,
    holder: HolderDep,
    options: OptionsDep,
    said: idempotency.SaidDep,
) -> Response:
    """As /v1/chat/completions."""
    return await _Call("/v1/completions", request, services, caller, holder, options, said).hold()


@router.post("/embeddings", responses=ERRORS)
async def embeddings(
    request: Request,
    services: ServicesDep,
    caller: CallerDep,
    holder: HolderDep,
    options: OptionsDep,
    said: idempotency.SaidDep,
) -> Response:
    """As /v1/chat/completions, without ``stream``."""
    return await _Call("/v1/embeddings", request, services, caller, holder, options, said).hold()


class _Call:
    """One request and its client, who may go away at any time."""

    def __init__(
        self,
        url: str,
        request: Request,
        services: ServicesDep,
        caller: CallerDep,
        holder: Holder,
        options: held_calls.Options,
        said: idempotency.Fingerprint,
    ) -> None:
        self._url = url
        self._request = request
        self._services = services
        self._caller = caller
        self._holder = holder
        self._options = options
        self._said = said
        self._streamed = self._with_usage = False

    async def hold(self) -> Response:
        raw = await held_calls.read(self._request)
        job, is_new = await self._begin(raw)
        del raw
        answer = asyncio.ensure_future(self._holder.answer(job))
        if not await self._present(answer, KEEP_ALIVE_SECONDS if self._streamed else None):
            answer.cancel()
            self._holder.abandoned(job)
            return Response(status_code=CLIENT_GONE)
        headers = {"x-gristmill-job": job.id, **({} if is_new else idempotency.REPLAYED)}
        if not answer.done():
            return self._stream(job, answer, headers)
        try:
            found = output_line.read(answer.result())
        except Stopping:
            self._holder.abandoned(job)
            raise _unavailable(job) from None
        if self._streamed and found.status_code == 200:
            return self._stream(job, answer, headers)
        return self._plain(job, found, headers)

    async def _begin(self, raw: bytearray) -> tuple[Held, bool]:
        """The job, and whether it is new."""
        try:
            prices = self._holder.prices.quick if len(raw) <= held_calls.SHORT_BODY else None
            new, keyed = self._checked(raw, prices) if prices else await self._checked_in_thread(raw)
        except NotAtHand:
            new, keyed = await self._checked_in_thread(raw)
        resent = keyed is None and self._options.resent
        if keyed is None and not resent:
            return await self._holder.create(new), True
        begin = partial(held_calls.begin, self._services, keyed, [new], resent=resent)
        [job], is_new = await run_in_threadpool(begin)
        if is_new:
            self._holder.ring([job])
        return job, is_new

    async def _checked_in_thread(self, raw: bytearray) -> _Checked:
        return await run_in_threadpool(self._checked, raw, self._holder.prices.look)

    def _checked(self, raw: bytearray, prices: TokenPrices) -> _Checked:
        digest = held_calls.digest(self._url, raw)
        keyed = self._said(f"{self._url} {digest}")
        checked = held_calls.checked(
            self._services, self._caller, self._url, raw, prices=prices, may_stream=self._url != "/v1/embeddings"
        )
        self._streamed, self._with_usage = checked.streamed, checked.with_usage
        new = held_calls.new(self._caller, checked, fingerprint=digest, options=self._options, holder=self._holder.name)
        return new, keyed

    async def _present(self, answer: "asyncio.Future[bytes]", seconds: float | None) -> bool:
        """Wait for the answer, or for so long; False if the client has gone meanwhile."""
        gone = asyncio.ensure_future(self._gone())
        try:
            both: set[asyncio.Future[Any]] = {answer, gone}
            await asyncio.wait(both, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            return not gone.done()
        except asyncio.CancelledError:
            answer.cancel()
            raise
        finally:
            gone.cancel()

    async def _gone(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            continue

    def _plain(self, job: Held, found: Said, headers: dict[str, str]) -> Response:
        if found.code is not None:
            raise errors.Conflict(f"The job {job.id} has ended without an answer ({found.code}).", code=found.code)
        if found.status_code >= 500 or found.status_code in RETRIED:
            headers |= errors.SHOULD_NOT_RETRY
        if found.request_id is not None and found.request_id.isascii() and found.request_id.isprintable():
            headers["x-gristmill-provider-request-id"] = found.request_id
        noted = BackgroundTask(_note, self._holder, job)
        return Response(found.body, found.status_code, headers, "application/json", background=noted)

    def _stream(self, job: Held, answer: "asyncio.Future[bytes]", headers: dict[str, str]) -> Response:
        chunks = self._chunks(job, answer)
        return StreamingResponse(chunks, media_type=replay.KIND, headers={**headers, **replay.HEADERS})

    async def _chunks(self, job: Held, answer: "asyncio.Future[bytes]") -> AsyncIterator[bytes]:
        """The head is on its way: whatever goes wrong now is an event."""
        delivered = False
        try:
            while not answer.done():
                yield replay.KEEP_ALIVE
                await asyncio.wait({answer}, timeout=KEEP_ALIVE_SECONDS)
            try:
                found = output_line.read(answer.result())
            except Stopping:
                yield b"".join(replay.failure(bytes(errors.response(_unavailable(job)).body)))
                return
            good = found.code is None and found.status_code == 200
            for event in replay.events(found.body, with_usage=self._with_usage) if good else replay.failure(found.body):
                yield event
            delivered = True
        finally:
            answer.cancel()
            (self._holder.delivered if delivered else self._holder.abandoned)(job)


async def _note(holder: Holder, job: Held) -> None:
    holder.delivered(job)


def _unavailable(job: Held) -> errors.Unavailable:
    return errors.Unavailable(f"The server is stopping. The job {job.id} goes on; ask again.", code="server_stopping")
