"""Who gets in: the holders of API keys or, while there never was a key, only the programs of this machine.

In that keyless mode no web page may make a browser spend money: a page can send requests to loopback, but not without
an Origin, not under a Host name of ours that it had to resolve elsewhere (DNS rebinding), and not with a JSON content
type.
"""

import asyncio
import ipaddress
import logging
import re

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import errors, keyring
from api.keyring import Caller, Keyring
from worker.database import DatabaseAway

log = logging.getLogger("gristmill.api")

JSON_BODY = 1 << 20
"""Bytes that a JSON request may have."""
LONG_BODY = 64 << 20
"""Bytes that a request to a model may have: images stand in it."""
LONG_PATHS = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/jobs"})
"""Their bodies are counted as they pass, and held once, by the route that reads them."""
UPLOAD_PATHS = frozenset({"/v1/files"})
STREAMED_PATHS = frozenset({"/v1/messages/batches"})
"""JSON that its route reads piece by piece, within a limit of its own."""
OPEN_PATHS = frozenset({"/healthz", "/readyz", "/docs", "/openapi.json"})
"""Everybody may see them where keys are needed. They take no body."""
UNREAD_PATHS = UPLOAD_PATHS | STREAMED_PATHS | OPEN_PATHS
"""Whose bodies are not read here."""

_HOST = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([0-9a-zA-Z.-]+))(?::[0-9]{1,5})?")


class Guard:
    """A body that brings nothing for ``stall_seconds`` is given up, so that nobody fills memory with halves of them."""

    def __init__(self, app: ASGIApp, keyring: Keyring, stall_seconds: float) -> None:
        self.app = app
        self._keyring = keyring
        self._stall_seconds = stall_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        try:
            caller = await self._caller(scope["path"], headers)
            if caller is not None:
                scope.setdefault("state", {})["caller"] = caller
            if scope["path"] not in UPLOAD_PATHS:
                _check_json(headers)
            if scope["path"] in LONG_PATHS:
                _check_length(headers, LONG_BODY)
                receive = _counted(_moving(receive, self._stall_seconds))
            elif scope["path"] not in UNREAD_PATHS:
                _check_length(headers, JSON_BODY)
                receive = _replayed(await _read_body(_moving(receive, self._stall_seconds)), receive)
            await self.app(scope, receive, send)
        except ClientDisconnect:
            return
        except errors.ApiError as error:
            await errors.response(error)(scope, receive, send)

    async def _caller(self, path: str, headers: Headers) -> Caller | None:
        """None for whoever only sees what is open to all. Raises ApiError."""
        try:
            keyless = self._keyring.is_keyless
            if keyless is None:
                keyless = await run_in_threadpool(self._keyring.look_for_keys)
            if keyless:
                _check_host(headers)
                _check_origin(headers)
                return keyring.LOCAL
            if path in OPEN_PATHS:
                return None
            secret = keyring.secret_in(headers)
            return self._keyring.recent(secret) or await run_in_threadpool(self._keyring.caller, secret)
        except DatabaseAway as error:
            if path in OPEN_PATHS:
                return None
            log.warning("503 for %s: %s", path, error)
            raise errors.database_away() from None


def is_loopback(host: str) -> bool:
    """Whether a host name or address, without port and brackets, can only mean this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_host(headers: Headers) -> None:
    if not is_loopback(_host_name(headers.get("host", ""))):
        raise errors.Forbidden(
            "Without API keys this server answers only under loopback names (localhost, 127.0.0.1, [::1]).",
            code="host_not_allowed",
        )


def _check_origin(headers: Headers) -> None:
    origin = headers.get("origin")
    if origin is not None and origin.lower() != f"http://{headers.get('host', '')}".lower():
        raise errors.Forbidden("Requests of web pages of another origin are refused.", code="origin_not_allowed")


def _check_json(headers: Headers) -> None:
    has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if has_body and kind != "application/json":
        raise errors.UnsupportedMediaType(
            "The body of this request must be JSON: send 'Content-Type: application/json'.",
            code="unsupported_media_type",
        )


def _check_length(headers: Headers, longest: int) -> None:
    length = headers.get("content-length", "0")
    if not length.isdecimal() or int(length[:20]) > longest:
        raise _too_large(longest)


async def _read_body(receive: Receive) -> bytes:
    body = bytearray()
    while (message := await receive())["type"] == "http.request":
        body += message.get("body", b"")
        if len(body) > JSON_BODY:
            raise _too_large(JSON_BODY)
        if not message.get("more_body"):
            return bytes(body)
    raise ClientDisconnect


def _moving(receive: Receive, seconds: float) -> Receive:
    """Raises RequestTimeout if a part of the body does not come for so long; behind its end there is time."""
    has_ended = False

    async def moving() -> Message:
        nonlocal has_ended
        try:
            async with asyncio.timeout(None if has_ended else seconds):
                message = await receive()
        except TimeoutError:
            said = f"The body of this request brought no byte for {seconds:g} seconds."
            raise errors.RequestTimeout(said, code="body_stalled") from None
        has_ended = not message.get("more_body")
        return message

    return moving


def _replayed(body: bytes, receive: Receive) -> Receive:
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return messages.pop() if messages else await receive()

    return replayed


def _counted(receive: Receive) -> Receive:
    size = 0

    async def counted() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > LONG_BODY:
            raise _too_large(LONG_BODY)
        return message

    return counted


def _too_large(longest: int) -> errors.ApiError:
    return errors.PayloadTooLarge(f"The body of this request may have at most {longest} bytes.", code="too_large")


def _host_name(host: str) -> str:
    found = _HOST.fullmatch(host)
    return (found[1] or found[2]).lower() if found else ""
