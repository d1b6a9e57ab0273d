"""How an answer reaches the client: whole or in events, late, in drops, broken, or not at all."""

import asyncio
import datetime
import email.utils
import math
import os
import socket
import struct
import time
import uuid
import zlib
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any

from providers.simulator import faults, limits, options
from providers.simulator.dialect import Dialect, Headers, Refusal, Reply

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

JSON = (b"content-type", b"application/json")
EVENTS = (b"content-type", b"text/event-stream; charset=utf-8")
GARBAGE = {
    "html": b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>",
    "empty": b"",
    "null": b"null",
    "list": b"[1, 2]",
    "nan": b'{"id": "x", "object": "chat.completion", "choices": [{"index": NaN}], "usage": {"prompt_tokens": NaN}}',
    "deep": b"[" * 100_000 + b"]" * 100_000,
    "text": b"upstream connect error or disconnect/reset before headers",
}


class Call:
    """One call on its way back to the client."""

    def __init__(self, receive: Receive, send: Send, speaker: Dialect) -> None:
        self.speaker = speaker
        self.told: float | None = None  # the wait that the client was told
        self._receive, self._send = receive, send
        self._began = time.monotonic()
        self._settings: options.Settings | None = None
        self._quota: limits.Quota | None = None

    def lane(self, settings: options.Settings, quota: limits.Quota) -> None:
        """From here on the rate headers are those of this quota."""
        self._settings, self._quota = settings, quota

    async def refuse(self, refusal: Refusal, extra: Headers | None = None) -> None:
        headers = [JSON, *self._headers(), *(extra or ())]
        if refusal.wait is not None and self._settings is not None:
            told, self.told = _retry_after(refusal.wait, self._settings.retry_after)
            headers += told
        await whole(self._send, refusal.status, headers, self.speaker.error(refusal))

    async def play(self, reply: Reply, wait: float) -> bool:
        """True if the client got the whole of what was meant for it."""
        fault = reply.fault
        if wait + fault.delay > 0 and await self._left(wait + fault.delay):
            return False
        if fault.hang is not None:
            await self._left(fault.hang)
            await self._sever(hard=False)
        elif fault.reset:
            await self._sever(hard=True)
        elif fault.name is not None and fault.name.startswith(("status", "code", "filter")):
            await self._fail(reply)
        elif reply.ask.stream:
            await self._stream(reply)
        else:
            await self._body(reply)
        return not self._gone

    @property
    def _gone(self) -> bool:
        # uvicorn swallows what is sent to a client that left, and says so only here.
        return bool(getattr(getattr(self._send, "__self__", None), "disconnected", False))

    async def _left(self, seconds: float) -> bool:
        """Waits; True, and at once, if the client leaves before the time is over."""
        try:
            async with asyncio.timeout(seconds):
                while (await self._receive())["type"] != "http.disconnect":
                    pass
        except TimeoutError:
            return False
        return True

    def _headers(self) -> Headers:
        now = time.monotonic()
        gauges: dict[str, limits.Gauge] = {}
        if self._quota is not None and self._settings is not None and self._settings.headers:
            gauges = self._quota.gauges(now)
        return self.speaker.headers(gauges, f"req_{uuid.uuid4().hex}", now - self._began)

    async def _fail(self, reply: Reply) -> None:
        fault, extra = reply.fault, []
        if fault.retry_after is not None:
            value, self.told = _told(fault.retry_after)
            extra.append((b"retry-after", value.encode()))
        if fault.retry_after_ms is not None:
            value, told = _told(fault.retry_after_ms)
            extra.append((b"retry-after-ms", value.encode()))
            self.told = told / 1000 if told is not None else self.told
        if fault.redirect is not None:
            extra.append((b"location", fault.redirect.encode()))
        await self.refuse(self.speaker.failed(reply.ask.model, fault), extra)

    async def _body(self, reply: Reply) -> None:
        fault = reply.fault
        headers = [JSON, *self._headers()]
        if fault.bomb is not None:
            await self._start(200, [*headers, (b"content-encoding", b"gzip")])
            await self._parts(_bomb(fault.bomb), None)
            return
        body = self.speaker.error(self.speaker.failed(reply.ask.model, ERROR)) if fault.error else None
        body = self.speaker.whole(reply) if body is None else body
        if fault.garbage is not None:
            body = garbled(fault.garbage, body)
            if fault.garbage == "html":
                headers[0] = (b"content-type", b"text/html")
        length = max(len(body), fault.size or 0)
        if fault.cut is None and fault.drip is None and length == len(body):
            await whole(self._send, 200, headers, body)
            return
        await self._start(200, [*headers, (b"content-length", b"%d" % length)])
        sent = length if fault.cut is None else int(length * min(fault.cut, 0.999))
        step = fault.bytes if fault.drip is not None else 2**16
        await self._parts(_padded(body, sent, step), fault.drip, last=fault.cut is None)
        if fault.cut is not None:
            await self._sever(hard=False)

    async def _stream(self, reply: Reply) -> None:
        fault, events = reply.fault, list(self.speaker.events(reply))
        if fault.garbage is not None:
            events = [b"data: " + garbled(fault.garbage, events[0][6:].strip()) + b"\n\n"]
        elif fault.error:
            error = self.speaker.error(self.speaker.failed(reply.ask.model, ERROR))
            events = [*events[: len(events) // 2], b"data: " + error + b"\n\n"]
        elif fault.cut is not None:
            events = events[: int(len(events) * min(fault.cut, 0.999))]
        await self._start(200, [EVENTS, (b"cache-control", b"no-cache"), *self._headers()])
        pace = fault.drip or (self._settings.per_token if self._settings is not None else 0.0)
        await self._parts(iter(events) if pace else iter([b"".join(events)]), pace, last=fault.cut is None)
        if fault.cut is not None:
            await self._sever(hard=False)

    async def _start(self, status: int, headers: Headers) -> None:
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def _parts(self, parts: Iterator[bytes], pace: float | None, last: bool = True) -> None:
        """Until the client leaves, with `pace` seconds between two parts."""
        for place, part in enumerate(parts):
            if self._gone or (place and pace and await self._left(pace)):
                return
            await self._send({"type": "http.response.body", "body": part, "more_body": True})
        if last and not self._gone:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _sever(self, hard: bool) -> None:
        """Closes the connection under the server's feet; `hard` with a TCP reset."""
        transport = getattr(getattr(self._send, "__self__", None), "transport", None)
        if transport is None:
            raise ConnectionAbortedError("no transport to close: this server is not uvicorn")
        if hard:
            # A duplicate, because uvloop's own socket object cannot set options.
            with socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as same:
                same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
        else:
            transport.close()
        await self._left(5.0)


ERROR = faults.Fault(status=500)


async def read(receive: Receive) -> bytes | None:
    """None if the client left before its request was whole."""
    message = await receive()
    if message["type"] != "http.request":
        return None
    body = message.get("body", b"")
    if not message.get("more_body"):
        return bytes(body)
    parts = [body]
    while message.get("more_body"):
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
    return b"".join(parts)


async def whole(send: Send, status: int, headers: Headers, body: bytes) -> None:
    headers = [*headers, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def garbled(kind: str, body: bytes) -> bytes:
    """A 200 that is no answer."""
    if kind == "truncated":
        return body[: len(body) * 2 // 3]
    if kind == "duplicate":
        return b'{"id": "first", ' + body[1:]
    if kind == "utf16":
        return body.decode().encode("utf-16")
    if kind == "surrogate":
        return body.replace(b'"content":"', b'"content":"\\ud83d ', 1)
    return GARBAGE[kind]


def _retry_after(wait: float, form: str) -> tuple[Headers, float | None]:
    """And the shortest wait that a client can read out of them. Whole seconds are rounded up, at least to 1."""
    seconds = max(1, math.ceil(wait - 1e-6))
    whole_seconds = (b"retry-after", b"%d" % seconds)
    exact = (b"retry-after-ms", b"%d" % math.ceil(wait * 1000 - 1e-6))
    if form == "both":
        return [whole_seconds, exact], wait
    if form == "ms":
        return [exact], wait
    if form == "seconds":
        return [whole_seconds], seconds
    return ([(b"retry-after", _date(seconds).encode())], seconds - 1.0) if form == "date" else ([], None)


def _told(value: str) -> tuple[str, float | None]:
    """The header for a fault's retry_after, and the seconds that it tells, if it tells any."""
    kind, _, rest = value.partition(":")
    try:
        if kind == "date":
            return _date(float(rest)), max(0.0, float(rest) - 1)
        return value, max(0.0, float(value))
    except ValueError:
        return value, None


def _date(seconds: float) -> str:
    """So many seconds from now, as HTTP writes it."""
    moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
    return email.utils.format_datetime(moment, usegmt=True)


def _padded(body: bytes, length: int, step: int) -> Iterator[bytes]:
    """`length` bytes of a JSON object, blanks after its first brace if it is shorter."""
    blanks = max(0, length - len(body))
    yield body[: min(1, length)]
    for at in range(0, blanks, step):
        yield b" " * min(step, blanks - at)
    for at in range(1, min(length, len(body)), step):
        yield body[at : min(at + step, length)]


def _bomb(size: int) -> Iterator[bytes]:
    """Gzip that opens to `size` blanks."""
    packer, block = zlib.compressobj(9, zlib.DEFLATED, 31), b" " * 2**20
    for at in range(0, size, len(block)):
        yield packer.compress(block[: size - at])
    yield packer.flush()
