"""The lines of output and error files, in the two shapes of OpenAI's Batch API."""

import json

import orjson


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


def _id(job: int) -> bytes:
    return b'"batch_req_%016x"' % job


def _text(value: str | None) -> bytes:
    return orjson.dumps(value)
