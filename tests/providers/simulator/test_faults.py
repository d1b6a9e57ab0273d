"""The little language of faults, and what each fault looks like on the wire."""

import contextlib
import email.utils
import gzip
import http.client
import json
import time
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest

from providers.simulator import faults, process


def body(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "tiny", "messages": [{"role": "user", "content": text}], **more}


def test_words_are_read_and_other_brackets_are_text() -> None:
    text = 'See [[Paris]] and [[status=429 retry_after=2 times=1]] [[say="a b" delay=0.5]] [[status]] is text too?'
    with pytest.raises(faults.FaultError, match="status"):
        faults.within(text)
    assert faults.within(text.replace("[[status]]", "")) == [
        {"status": 429, "retry_after": "2", "times": 1},
        {"say": "a b", "delay": 0.5},
    ]


@pytest.mark.parametrize("text", ["[[status=99]]", "[[delay=soon]]", "[[garbage=pdf]]", "[[reset=1]]", "[[times=-1]]"])
def test_an_impossible_value_is_refused(ask: Any, text: str) -> None:
    response = ask("/v1/chat/completions", body(text))
    assert response.status == 400
    assert "the fault" in response.error["message"]


def test_a_fault_ends_after_its_times(ask: Any) -> None:
    text = "nonce:a [[status=500 times=1]] [[status=429 times=2]]"
    statuses = [ask("/v1/chat/completions", body(text)).status for _ in range(4)]
    assert statuses == [500, 429, 200, 200]


def test_calls_that_the_limits_refuse_do_not_use_up_a_fault(make: Any) -> None:
    ask = make(keys={"sk-poor": {"rpm": 1}})
    text = body("nonce:a [[status=500 times=2]]")
    statuses = [
        ask("/v1/chat/completions", text, key=key).status for key in ("sk-poor", "sk-poor", "sk-rich", "sk-rich")
    ]
    assert statuses == [500, 429, 500, 200]


def test_probable_faults_do_not_depend_on_the_order(make: Any) -> None:
    chances = {"status=500": 0.3, "status=429 retry_after=1": 0.2}

    def outcome(order: list[int]) -> dict[int, list[int]]:
        ask = make(faults=chances)
        found: dict[int, list[int]] = {number: [] for number in order}
        for number in order * 2:
            found[number].append(ask("/v1/chat/completions", body(f"nonce:n{number}")).status)
        return found

    forwards = outcome(list(range(60)))
    assert forwards == outcome(list(reversed(range(60))))
    assert {status for pair in forwards.values() for status in pair} == {200, 429, 500}
    assert any(first != second for first, second in forwards.values())


def test_a_poisoned_nonce_fails_every_time(make: Any) -> None:
    ask = make(faults={"status=500 always": 0.5})
    outcomes = [{ask("/v1/chat/completions", body(f"nonce:n{n}")).status for _ in range(3)} for n in range(40)]
    assert {len(statuses) for statuses in outcomes} == {1}
    assert {500} in outcomes and {200} in outcomes


@pytest.mark.parametrize(
    ("words", "status", "kind", "code"),
    [
        ("status=400", 400, "invalid_request_error", None),
        ("status=401", 401, "invalid_request_error", "invalid_api_key"),
        ("status=404", 404, "invalid_request_error", "model_not_found"),
        ("status=429", 429, "requests", "rate_limit_exceeded"),
        ("status=500", 500, "server_error", None),
        ("status=529", 529, "server_error", None),
        ("status=503", 503, "service_unavailable_error", "server_is_overloaded"),
        ("code=insufficient_quota", 429, "insufficient_quota", "insufficient_quota"),
        ("code=credit_balance_exhausted", 429, "insufficient_quota", "credit_balance_exhausted"),
        ("code=slow_down", 429, "rate_limit_error", "slow_down"),
        ("code=tokens_exceeded", 429, "tokens", "rate_limit_exceeded"),
        ("code=context_length_exceeded", 400, "invalid_request_error", "context_length_exceeded"),
        ("filter", 400, "invalid_request_error", "content_policy_violation"),
        ("status=418 type=teapot code=short", 418, "teapot", "short"),
    ],
)
def test_error_answers_have_the_vendors_shape(ask: Any, words: str, status: int, kind: str, code: str | None) -> None:
    response = ask("/v1/chat/completions", body(f"[[{words}]]"))
    assert response.status == status
    assert set(response.json) == {"error"}
    assert set(response.error) == {"message", "type", "param", "code"}
    assert (response.error["type"], response.error["code"]) == (kind, code)


@pytest.mark.parametrize("value", ["2", "-5", "1000000000", "soon"])
def test_retry_after_is_sent_as_asked(ask: Any, value: str) -> None:
    assert ask("/v1/chat/completions", body(f"[[status=429 retry_after={value}]]")).headers["retry-after"] == value


def test_retry_after_can_be_a_date(ask: Any) -> None:
    response = ask("/v1/chat/completions", body("[[status=429 retry_after=date:60]]"))
    moment = email.utils.parsedate_to_datetime(response.headers["retry-after"]).timestamp()
    assert 55 < moment - time.time() < 65


@pytest.mark.parametrize("form", ["both", "seconds", "ms", "date", "none"])
def test_the_limits_tell_their_wait_in_the_chosen_form(make: Any, form: str) -> None:
    ask = make(rpm=2, mode="bucket", burst=30, retry_after=form)
    ask("/v1/chat/completions", body("a"))
    headers = ask("/v1/chat/completions", body("b")).headers
    if form == "date":
        assert headers.pop("retry-after").endswith("GMT")
    assert headers.get("retry-after") == ("30" if form in ("both", "seconds") else None)
    assert ("retry-after-ms" in headers) == (form in ("both", "ms"))


@pytest.mark.parametrize(
    ("kind", "start"),
    [("html", b"<html>"), ("null", b"null"), ("list", b"["), ("deep", b"[[[["), ("utf16", b"\xff\xfe")],
)
def test_garbage_is_a_200_that_is_no_answer(ask: Any, kind: str, start: bytes) -> None:
    response = ask("/v1/chat/completions", body(f"[[garbage={kind}]]"))
    assert response.status == 200
    assert response.body.startswith(start)


@pytest.mark.parametrize("kind", ["empty", "truncated", "text"])
def test_garbage_may_be_no_json(ask: Any, kind: str) -> None:
    with pytest.raises(json.JSONDecodeError):
        json.loads(ask("/v1/chat/completions", body(f"[[garbage={kind}]]")).body)


def test_garbage_may_be_odd_json(ask: Any) -> None:
    assert ask("/v1/chat/completions", body("[[garbage=duplicate]]")).body.count(b'"id"') == 2
    surrogate = ask("/v1/chat/completions", body("[[garbage=surrogate]]")).json
    assert surrogate["choices"][0]["message"]["content"].startswith("\ud83d")


@pytest.mark.parametrize(
    ("how", "expected"),
    [("null", None), ("zero", 0), ("negative", -7), ("string", "many")],
)
def test_usage_may_be_wrong(ask: Any, how: str, expected: Any) -> None:
    usage = ask("/v1/chat/completions", body(f"[[usage={how}]]")).json["usage"]
    assert (usage and usage["total_tokens"]) == expected


def test_usage_may_be_absent(ask: Any) -> None:
    assert "usage" not in ask("/v1/chat/completions", body("[[usage=none]]")).json


def test_what_is_said_may_be_chosen(ask: Any) -> None:
    def first(text: str) -> dict[str, Any]:
        choice: dict[str, Any] = ask("/v1/chat/completions", body(text)).json["choices"][0]
        return choice

    assert first("[[empty]]")["message"]["content"] == ""
    assert first("[[finish=length]]")["finish_reason"] == "length"
    assert first("[[filter=finish]]")["finish_reason"] == "content_filter"
    assert first("[[refusal]]")["message"]["content"] is None
    assert first("[[refusal]]")["message"]["refusal"]
    assert first('[[say="=1+1,\\u2028\\n"]]')["message"]["content"] == "=1+1,\u2028\n"
    assert ask("/v1/chat/completions", body("[[tokens=500]]")).json["usage"]["completion_tokens"] == 500


def test_a_200_may_hold_an_error(ask: Any) -> None:
    response = ask("/v1/chat/completions", body("[[error]]"))
    assert response.status == 200
    assert response.error["type"] == "server_error"


def test_a_redirect_names_its_target(ask: Any) -> None:
    response = ask("/v1/chat/completions", body("[[status=307 redirect=http://127.0.0.1:1/x]]"))
    assert (response.status, response.headers["location"]) == (307, "http://127.0.0.1:1/x")


def test_commands_can_be_switched_off(make: Any) -> None:
    assert make(commands=False)("/v1/chat/completions", body("[[status=500]]")).status == 200


@contextlib.contextmanager
def send(simulator: process.Process, text: str, **more: Any) -> Iterator[http.client.HTTPResponse]:
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(simulator.url).netloc, timeout=20)
    with contextlib.closing(connection):
        connection.request("POST", "/v1/chat/completions", json.dumps(body(text, **more)))
        with connection.getresponse() as response:
            yield response


def test_a_cut_body_ends_early(simulator: process.Process) -> None:
    with send(simulator, "[[cut=0.25]]") as response:
        promised = int(response.headers["content-length"])
        with pytest.raises(http.client.IncompleteRead) as caught:
            response.read()
    assert len(caught.value.partial) == promised // 4


def test_a_cut_stream_ends_without_its_end(simulator: process.Process) -> None:
    with send(simulator, "[[cut]]", stream=True) as response, pytest.raises(http.client.IncompleteRead) as caught:
        response.read()
    assert b"data: {" in caught.value.partial
    assert b"[DONE]" not in caught.value.partial


def test_a_reset_is_a_tcp_reset(simulator: process.Process) -> None:
    with pytest.raises(ConnectionResetError), send(simulator, "[[reset]]"):
        pass


def test_a_hung_call_is_closed_without_an_answer(simulator: process.Process) -> None:
    with pytest.raises(http.client.RemoteDisconnected), send(simulator, "[[hang=0.05]]"):
        pass


def test_a_drip_comes_in_drops(simulator: process.Process) -> None:
    with send(simulator, "[[drip=0.01 bytes=100]]") as response:
        whole = response.read()
    assert json.loads(whole)["object"] == "chat.completion"
    assert simulator.stats()["answered"] == 1


def test_a_slow_stream_is_whole(simulator: process.Process) -> None:
    with send(simulator, "[[drip=0.001]]", stream=True) as response:
        assert response.read().endswith(b"data: [DONE]\n\n")
    assert simulator.stats()["answered"] == 1


def test_a_body_may_be_as_large_as_asked(simulator: process.Process) -> None:
    with send(simulator, "[[size=3000000]]") as response:
        whole = response.read()
    assert len(whole) == 3_000_000
    assert json.loads(whole)["object"] == "chat.completion"


def test_a_bomb_opens_to_the_size_asked(simulator: process.Process) -> None:
    with send(simulator, "[[bomb=5000000]]") as response:
        packed = response.read()
    assert response.headers["content-encoding"] == "gzip"
    assert len(packed) < 50_000
    assert len(gzip.decompress(packed)) == 5_000_000


def test_a_client_that_leaves_is_counted(simulator: process.Process) -> None:
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(simulator.url).netloc, timeout=20)
    connection.request("POST", "/v1/chat/completions", json.dumps(body("nonce:left [[delay=60]]")))
    until(lambda: simulator.stats()["in_flight"] == 1)
    connection.close()
    until(lambda: simulator.stats()["gone"] == 1)
    assert simulator.stats()["in_flight"] == 0


def until(condition: Any, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
