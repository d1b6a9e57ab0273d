"""The stored lines of both surfaces, read as each one's own SDK reads them."""

import json
from typing import Any

import pytest
from anthropic.types.messages import MessageBatchIndividualResponse

from worker import result_line
from worker.states import Kind

MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [{"type": "text", "text": "x"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 1},
}


def read(line: bytes) -> Any:
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    return MessageBatchIndividualResponse.model_validate_json(line, strict=True)


def test_a_message_is_stored_as_it_came():
    body = json.dumps(MESSAGE).encode()
    line = result_line.succeeded(Kind.MESSAGES, 7, "a", 200, "req", body)
    assert body in line
    assert (read(line).custom_id, read(line).result.message.content[0].text) == ("a", "x")


def test_errors_have_the_type_of_their_status():
    line = result_line.failed(
        Kind.MESSAGES, 7, "a", 429, "req_9", code="rate_limit_exceeded", message='slow "down"', body=b"{}"
    )
    error = read(line).result.error
    assert (error.error.type, error.error.message, error.request_id) == ("rate_limit_error", 'slow "down"', "req_9")
    assert (
        read(result_line.broken(Kind.MESSAGES, 7, "a", "internal_error", "why")).result.error.error.type == "api_error"
    )


def test_a_refused_line_speaks_of_params():
    line = result_line.refused(
        Kind.MESSAGES, 7, "a", "missing_required_parameter", "Missing required parameter: 'body.model'.", "body.model"
    )
    assert read(line).result.error.error.message == "Missing required parameter: 'params.model'."
    unknown = result_line.refused(Kind.MESSAGES, 7, "a", "model_not_found", "No such model.", "body.model")
    assert read(unknown).result.error.error.type == "not_found_error"


@pytest.mark.parametrize(("code", "type"), [("batch_cancelled", "canceled"), ("batch_expired", "expired")])
def test_stopped_lines(code, type):
    assert read(result_line.not_executed(Kind.MESSAGES, 7, "a", code, "why")).result.type == type


def test_batches_keep_openai_s_shapes():
    failed = json.loads(result_line.broken(Kind.BATCH, 7, "a", "internal_error", "why"))
    assert failed["response"]["status_code"] == 500 and failed["error"] is None
    assert failed["response"]["body"]["error"]["code"] == "internal_error"
    stopped = json.loads(result_line.not_executed(Kind.BATCH, 7, "a", "batch_expired", "why"))
    assert stopped["response"] is None and stopped["error"] == {"code": "batch_expired", "message": "why"}
