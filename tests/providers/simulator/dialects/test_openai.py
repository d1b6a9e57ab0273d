"""Clocks, errors and paths of the OpenAI dialect."""

from typing import Any

import hypothesis
import pytest
from hypothesis import strategies

from providers.simulator.dialects import openai


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.012, "12ms"),
        (0.0001, "1ms"),
        (1, "1s"),
        (7.66, "7.66s"),
        (360, "6m0s"),
        (86.4, "1m26.4s"),
        (3723, "1h2m3s"),
        (3600, "1h0m0s"),
    ],
)
def test_a_clock_is_written_as_the_vendor_does(seconds: float, text: str) -> None:
    assert openai.clock(seconds) == text


@hypothesis.given(strategies.floats(0, 100_000))
def test_a_clock_never_promises_too_early(seconds: float) -> None:
    total, number = 0.0, ""
    units = {"h": 3600.0, "m": 60.0, "s": 1.0}
    for sign in openai.clock(seconds).replace("ms", "x"):
        if sign in "hmsx":
            total += float(number) * units.get(sign, 0.001)
            number = ""
        else:
            number += sign
    assert seconds - 1e-6 <= total <= seconds + 0.002


def test_the_limits_speak_the_vendors_words(make: Any) -> None:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "x"}], "max_tokens": 50}
    ask = make(rpm=1, tpm=100)
    ask("/v1/chat/completions", body)
    error = ask("/v1/chat/completions", body).error
    assert (error["type"], error["code"], error["param"]) == ("requests", "rate_limit_exceeded", None)
    assert error["message"].startswith(
        "Rate limit reached for tiny in organization org-simulator on requests per min (RPM): Limit 1, Used 1, "
        "Requested 1. Please try again in "
    )
    error = ask("/v1/chat/completions", {**body, "max_tokens": 500}).error
    assert error["message"].startswith("Request too large for tiny")
    assert error["type"] == "tokens"


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/v1/nothing", {}, 404, None),
        ("/v1/chat/completions/x", {}, 404, None),
        ("/", None, 404, None),
        ("/v1/chat/completions", None, 405, "method_not_supported"),
        ("/v1/models", {}, 405, "method_not_supported"),
    ],
)
def test_wrong_paths_and_methods_are_errors_of_the_vendor(
    ask: Any, path: str, body: Any, status: int, code: str | None
) -> None:
    response = ask(path, body)
    assert (response.status, response.error["code"]) == (status, code)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/openai/v1/chat/completions", "/a/b/v1/chat/completions"])
def test_any_prefix_will_do(ask: Any, path: str) -> None:
    assert ask(path, {"model": "tiny-9", "messages": [{"role": "user", "content": "x"}]}).json["model"] == "tiny-9"
