"""The lines of output and error files, in the two shapes of OpenAI's Batch API."""

import json
from dataclasses import dataclass

import orjson

_BODY, _TAIL = b',"body":', b'},"error":null}\n'
"""Around the body. No JSON string can hold the first of them, so it is found at once."""


def answered(job: int, custom_id: str | None, status_code: int, request_id: str | None, body: bytes) -> bytes:
    """A line with the provider's answer, good or bad (shape A). ``body`` is one line of JSON and stays as it is."""
    return b'{"id":%b,"custom_id":%b,"response":{"status_code":%d,"request_id":%b,"body":%b},"error":null}\n' % (
        _id(job),
        _text(custom_id),
        status_code,
        _text(request_id),
        body,
    )


def refused(job: int, custom_id: str | None, code: str, message: str, param: str | None) -> bytes:
    """A line that was never sent because it is wrong, in the shape in which a provider would have refused it."""
    error = {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}
    return answered(job, custom_id, 400, None, json.dumps(error).encode())


def not_executed(job: int, custom_id: str | None, code: str, message: str) -> bytes:
    """A line that was stopped before it had an answer (shape B): only ``batch_cancelled`` and ``batch_expired``."""
    return b'{"id":%b,"custom_id":%b,"response":null,"error":{"code":%b,"message":%b}}\n' % (
        _id(job),
        _text(custom_id),
        _text(code),
        _text(message),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """What a line says, its body as the provider sent it. ``code``: why there is none."""

    status_code: int
    request_id: str | None
    body: bytes
    code: str | None = None


def read(line: bytes) -> Said:
    """Of a line that this module has written."""
    head, mark, rest = line.partition(_BODY)
    if not mark:
        error = orjson.loads(line)["error"]
        return Said(status_code=0, request_id=None, body=orjson.dumps({"error": error}), code=error["code"])
    said = orjson.loads(head + b"}}")["response"]
    return Said(status_code=said["status_code"], request_id=said["request_id"], body=rest.removesuffix(_TAIL))


def _id(job: int) -> bytes:
    return b'"batch_req_%016x"' % job


def _text(value: str | None) -> bytes:
    return orjson.dumps(value)
