"""The body of a Message Batch's create, ``{"requests": [{"custom_id", "params"}, ...]}``, split as it arrives."""

import re
from collections.abc import Callable
from typing import Any

from api import errors, faults
from providers import json_text

MOST_REQUESTS = 100_000
MOST_BYTES = 256 << 20
LARGEST_REQUEST = 32 << 20
"""Bytes of one request: Anthropic's limit for a single Messages request."""
HEAD_BYTES = 1_000
"""Within so many the list must begin."""

PARAMS = b'"\\u0000"'
"""Stands for the params while the rest of their request is read."""
LINE = b'{"custom_id":"%b","method":"POST","url":"/v1/messages","body":%b}\n'

_HEAD = re.compile(rb'\s*\{\s*"requests"\s*:\s*\[')
_SPACE = re.compile(rb"[ \t\r\n]*")
_MARK = re.compile(rb'["{}\[\]]')
_TEXT = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
"""A string as far as it is there: to its quote, to a backslash whose next byte is missing, or to the end."""
_CUSTOM_ID = re.compile("[a-zA-Z0-9_-]{1,64}")


Step = Callable[[list[bytes]], bool]
"""Takes something off the buffer; False if more must come first."""


class Requests:
    """Feed it chunks and store the lines that it gives back: one request is in memory at a time. Raises ApiError."""

    def __init__(self) -> None:
        self.count = 0
        self._ids: set[str] = set()
        self._buffer = bytearray()
        self._step: Step = self._head
        self._looked = 0
        self._depth = 0
        self._inner = (0, 0)
        self._in_text = False

    def feed(self, chunk: bytes) -> bytes:
        """Lines of an input file, one for each request that is now whole; params stay as they were written."""
        self._buffer += chunk
        lines: list[bytes] = []
        while self._step(lines):
            continue
        return b"".join(lines)

    def finish(self) -> None:
        """The body has ended."""
        if self._step == self._head:
            raise _without_list(bytes(self._buffer))
        if self._step != self._end or self._buffer:
            raise _not_json()
        if self.count == 0:
            raise errors.BadRequest("requests: List should have at least 1 item after validation, not 0")

    def _head(self, lines: list[bytes]) -> bool:
        found = _HEAD.match(self._buffer)
        if found is None:
            if len(self._buffer) > HEAD_BYTES:
                raise _without_list(bytes(self._buffer[:HEAD_BYTES]))
            return False
        return self._go(found.end(), self._first)

    def _first(self, lines: list[bytes]) -> bool:
        match self._sign():
            case None:
                return False
            case b"]":
                return self._go(1, self._tail)
        self._step = self._request
        return True

    def _request(self, lines: list[bytes]) -> bool:
        sign = self._sign()
        if sign is None:
            return False
        if sign != b"{":
            raise errors.BadRequest(f"requests.{self.count}: Input should be an object")
        end = self._look()
        if (len(self._buffer) if end is None else end) > LARGEST_REQUEST:
            message = f"requests.{self.count}: A request may have at most {LARGEST_REQUEST} bytes"
            raise errors.PayloadTooLarge(message)
        if end is None:
            return False
        lines.append(self._line(*self._taken(end)))
        self.count += 1
        if self.count > MOST_REQUESTS:
            raise errors.PayloadTooLarge(f"requests: A batch may have at most {MOST_REQUESTS} requests")
        return self._go(0, self._between)

    def _between(self, lines: list[bytes]) -> bool:
        match self._sign():
            case None:
                return False
            case b",":
                return self._go(1, self._request)
            case b"]":
                return self._go(1, self._tail)
        raise _not_json()

    def _tail(self, lines: list[bytes]) -> bool:
        match self._sign():
            case None:
                return False
            case b"}":
                return self._go(1, self._end)
            case b",":
                raise errors.BadRequest("Only 'requests' may stand in the body: Extra inputs are not permitted")
        raise _not_json()

    def _end(self, lines: list[bytes]) -> bool:
        if self._sign() is not None:
            raise _not_json()
        return False

    def _go(self, by: int, step: Step) -> bool:
        del self._buffer[:by]
        self._step = step
        return True

    def _sign(self) -> bytes | None:
        """The next byte that is no space, which stays; None if it has not come."""
        if self._looked == 0:
            found = _SPACE.match(self._buffer)
            del self._buffer[: found.end() if found else 0]
        return bytes(self._buffer[:1]) or None

    def _look(self) -> int | None:
        """Where the object ends that the buffer begins with, or None. Looks at each byte once."""
        buffer, at = self._buffer, self._looked
        while True:
            if self._in_text:
                text = _TEXT.match(buffer, at)
                at = text.end() if text else at
                if buffer[at : at + 1] != b'"':
                    break
                at, self._in_text = at + 1, False
            mark = _MARK.search(buffer, at)
            if mark is None:
                at = len(buffer)
                break
            at = mark.end()
            sign = mark.group()
            if sign == b'"':
                self._in_text = True
            elif sign in b"{[":
                self._depth += 1
                if self._depth == 2:
                    self._inner = (at - 1, 0)
            else:
                self._depth -= 1
                if self._depth == 1:
                    self._inner = (self._inner[0], at)
                if self._depth == 0:
                    return at
        self._looked = at
        return None

    def _taken(self, end: int) -> tuple[bytes, bytes]:
        """The request that ends there, without the last list or object in it, and that: its params, if it is good."""
        start, stop = self._inner
        rest = bytes(self._buffer[:start] + PARAMS + self._buffer[stop:end]) if stop else bytes(self._buffer[:end])
        with memoryview(self._buffer) as view:
            params = bytes(view[start:stop])
        del self._buffer[:end]
        self._looked, self._inner = 0, (0, 0)
        return rest, params

    def _line(self, rest: bytes, params: bytes) -> bytes:
        where = f"requests.{self.count}"
        _check_json(params or b"{}", where)
        fields = _check_json(rest, where)
        for name in ("custom_id", "params"):
            if name not in fields:
                raise errors.BadRequest(f"{where}.{name}: Field required")
        for name in fields:
            if name not in ("custom_id", "params"):
                raise errors.BadRequest(f"{where}.{faults.shown(name)}: Extra inputs are not permitted")
        if fields["params"] != json_text.loads(PARAMS) or not params.startswith(b"{"):
            raise errors.BadRequest(f"{where}.params: Input should be an object")
        return LINE % (self._custom_id(where, fields["custom_id"]).encode(), json_text.one_line(params))

    def _custom_id(self, where: str, id: object) -> str:
        if not isinstance(id, str) or _CUSTOM_ID.fullmatch(id) is None:
            raise errors.BadRequest(f"{where}.custom_id: String should match pattern '^[a-zA-Z0-9_-]{{1,64}}$'")
        if id in self._ids:
            raise errors.BadRequest(f"{where}.custom_id: '{id}' is used by another request: it must be unique")
        self._ids.add(id)
        return id


def _without_list(head: bytes) -> errors.BadRequest:
    """Of a body in whose beginning no list of requests begins."""
    try:
        fields = json_text.loads(head)
    except ValueError:
        return errors.BadRequest('The body must be {"requests": [{"custom_id": ..., "params": {...}}, ...]}')
    if not isinstance(fields, dict) or "requests" not in fields:
        return errors.BadRequest("requests: Field required")
    if isinstance(fields["requests"], list):
        return errors.BadRequest("Only 'requests' may stand in the body: Extra inputs are not permitted")
    return errors.BadRequest("requests: Input should be a valid list")


def _check_json(text: bytes, where: str) -> Any:
    try:
        return json_text.loads(text)
    except ValueError:
        raise errors.BadRequest(f"{where}: The request is not valid JSON") from None


def _not_json() -> errors.BadRequest:
    return errors.BadRequest("The body of the request is not valid JSON")
