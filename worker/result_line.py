"""The line that is stored for a finished job, in the format of the surface through which its batch came."""

import json

from worker import message_line, output_line
from worker.states import Kind


def succeeded(
    kind: str, job: int, custom_id: str | None, status_code: int, request_id: str | None, body: bytes
) -> bytes:
    if kind == Kind.MESSAGES:
        return message_line.succeeded(custom_id, body)
    return output_line.answered(job, custom_id, status_code, request_id, body)


def failed(
    kind: str,
    job: int,
    custom_id: str | None,
    status_code: int,
    request_id: str | None,
    *,
    code: str,
    message: str,
    body: bytes,
) -> bytes:
    """The provider refused or failed; ``body`` says so in OpenAI's shape."""
    if kind == Kind.MESSAGES:
        return message_line.errored(custom_id, status_code, code, message, request_id)
    return output_line.answered(job, custom_id, status_code, request_id, body)


def broken(kind: str, job: int, custom_id: str | None, code: str, message: str) -> bytes:
    """We failed, and not the provider."""
    error = {"message": message, "type": "server_error", "param": None, "code": code}
    body = json.dumps({"error": error}).encode()
    return failed(kind, job, custom_id, 500, None, code=code, message=message, body=body)


def refused(kind: str, job: int, custom_id: str | None, code: str, message: str, param: str | None) -> bytes:
    """The line is wrong and was never sent. A body is called params there."""
    if kind == Kind.MESSAGES:
        return message_line.errored(custom_id, 400, code, message.replace("'body.", "'params."), None)
    return output_line.refused(job, custom_id, code, message, param)


def not_executed(kind: str, job: int, custom_id: str | None, code: str, message: str) -> bytes:
    """The line was stopped before it had an answer: only ``batch_cancelled`` and ``batch_expired``."""
    if kind == Kind.MESSAGES:
        return message_line.stopped(custom_id, code)
    return output_line.not_executed(job, custom_id, code, message)
