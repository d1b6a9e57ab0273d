import types

import orjson
import pytest

from providers import answer, errors
from providers.wire import openai_errors
from tests.providers import faulty_server

TO = faulty_server.deployed("http://h/v1")


def error(status, body, headers=types.MappingProxyType({})):
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return openai_errors.from_answer(answer.Answer(status, headers, raw), TO)


def coded(status, code=None, type=None, message="m"):
    return error(status, {"error": {"message": message, "type": type, "param": None, "code": code}})


@pytest.mark.parametrize("code", [code for code, kind in openai_errors._CODES.items() if kind is errors.BillingError])
def test_money_is_told_from_speed_by_code(code):
    assert type(coded(429, code, "insufficient_quota")) is errors.BillingError
    assert type(coded(429, code)) is errors.BillingError


def test_code_wins_over_type_and_type_over_status():
    assert type(coded(429, "slow_down", "rate_limit_error")) is errors.RampLimitError
    assert type(coded(400, None, "insufficient_quota")) is errors.BillingError
    assert type(coded(400, "context_length_exceeded", "server_error")) is errors.ContextLengthError


def test_words_do_not_decide_where_a_code_does():
    assert type(coded(429, "slow_down", message="Request too large for x")) is errors.RampLimitError
    assert type(coded(400, "invalid_api_key", message="maximum context length is 5")) is errors.AuthenticationError


@pytest.mark.parametrize(
    ("status", "kind", "billed"),
    [
        (400, errors.InvalidRequestError, False),
        (401, errors.AuthenticationError, False),
        (402, errors.BillingError, False),
        (403, errors.PermissionDeniedError, False),
        (404, errors.NotFoundError, False),
        (408, errors.DeadlineError, True),
        (409, errors.OverloadedError, False),
        (413, errors.PayloadTooLargeError, False),
        (418, errors.InvalidRequestError, False),
        (422, errors.InvalidRequestError, False),
        (429, errors.RateLimitError, False),
        (498, errors.OverloadedError, False),
        (500, errors.ServerError, False),
        (502, errors.ServerError, True),
        (503, errors.OverloadedError, False),
        (504, errors.DeadlineError, True),
        (524, errors.DeadlineError, True),
        (529, errors.OverloadedError, False),
        (599, errors.ServerError, False),
    ],
)
def test_a_bare_status(status, kind, billed):
    got = error(status, b"")
    assert (type(got), got.may_be_billed, got.public_status()) == (kind, billed, status)


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "m", "code": 400, "type": "BadRequestError"}},
        {"error": {"message": "m", "code": "400"}},
        {"error": {"message": "m", "code": 1e300}},
        {"error": {"message": "m", "code": 10**18}},
        {"error": {"message": "m", "code": True, "type": {}, "param": []}},
        {"error": {"message": {"text": "m"}}},
        {"error": ["m"]},
        {"error": "m"},
        {"object": "error", "message": "m", "code": 40303},
        [{"error": {"message": "m", "code": 400}}],
        [[]],
        [],
        5,
        b"\xff\xfe",
        b'{"error": {"message": "\\ud800\\u0000", "code": "\\ud800"}}',
    ],
)
def test_odd_bodies_are_still_an_invalid_request(body):
    got = error(400, body)
    assert type(got) is errors.InvalidRequestError
    assert isinstance(got.code, str)
    assert got.message.encode()
    assert orjson.loads(got.public_body())["error"]["message"] is not None


def test_an_error_in_a_success_takes_the_status_it_carries():
    assert type(error(200, {"error": {"message": "m", "code": 429}})) is errors.RateLimitError
    assert type(error(200, {"error": {"message": "m", "code": 7}})) is errors.ServerError
    assert error(200, {"error": {"message": "m"}}).may_be_billed


@pytest.mark.parametrize(
    ("words", "wait"),
    [
        ("Please try again in 20s.", 20.0),
        ("Please try again in 5.289s. Visit", 5.289),
        ("Please try again in 120ms.", 0.12),
        ("Please try again in 7m12s.", 432.0),
        ("Please try again in 1h2m3.5s", 3723.5),
        ("Please try again in 6m", 360.0),
        ("Please try again in 999999h", 86400.0),
        ("Please try again in a while", None),
        ("Please try again", None),
    ],
)
def test_the_wait_in_words_of_a_429(words, wait):
    assert coded(429, "rate_limit_exceeded", message=words).retry_after == wait


def test_the_header_wins_over_words():
    body = {"error": {"message": "try again in 20s"}}
    assert error(429, body, {"retry-after": "3"}).retry_after == 3.0
    assert error(503, body).retry_after is None


@pytest.mark.parametrize("status", [300, 301, 302, 307, 308])
def test_a_redirect_is_a_wrong_base_url(status):
    got = error(status, b"", {"location": "http://evil/"})
    assert (type(got), got.code, got.public_status()) == (errors.NotFoundError, "redirect_not_followed", 404)
