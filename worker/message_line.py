"""The lines of a Message Batch's results, in the shapes of Anthropic's API."""

import orjson

from providers import json_text
from providers.messages import errors

STOPPED = {"batch_cancelled": b"canceled", "batch_expired": b"expired"}


def succeeded(custom_id: str | None, message: bytes) -> bytes:
    """``message`` is one line of JSON and stays as it is."""
    return _line(custom_id, b'{"type":"succeeded","message":%b}' % message)


def errored(custom_id: str | None, status_code: int, code: str, message: str, request_id: str | None) -> bytes:
    error = json_text.dumps(errors.body(status_code, code, message, request_id))
    return _line(custom_id, b'{"type":"errored","error":%b}' % error)


def stopped(custom_id: str | None, code: str) -> bytes:
    """A line that was stopped before it had an answer."""
    return _line(custom_id, b'{"type":"%b"}' % STOPPED[code])


def _line(custom_id: str | None, result: bytes) -> bytes:
    return b'{"custom_id":%b,"result":%b}\n' % (orjson.dumps(custom_id), result)
