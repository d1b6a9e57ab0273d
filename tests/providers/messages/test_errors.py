import json
import typing

import pytest
from anthropic.types import ErrorResponse

from providers.messages import errors


@pytest.mark.parametrize(
    ("status", "code", "type"),
    [
        (400, None, "invalid_request_error"),
        (422, None, "invalid_request_error"),
        (401, None, "authentication_error"),
        (402, None, "billing_error"),
        (429, "insufficient_quota", "billing_error"),
        (403, None, "permission_error"),
        (404, None, "not_found_error"),
        (400, "model_not_found", "not_found_error"),
        (429, "rate_limit_exceeded", "rate_limit_error"),
        (500, None, "api_error"),
        (502, None, "api_error"),
        (503, None, "overloaded_error"),
        (529, None, "overloaded_error"),
        (504, None, "timeout_error"),
    ],
)
def test_types(status, code, type):
    raw = json.dumps(errors.body(status, code, "why", "req_1"))
    read: typing.Any = ErrorResponse.model_validate_json(raw, strict=True)
    assert (read.error.type, read.error.message, read.request_id) == (type, "why", "req_1")
