"""Held calls over HTTP; the engine is played by the test, which answers when it likes."""

import asyncio
import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, cast

import httpx
import pytest

from api import guard
from api.holder import Holder
from api.routes import held as routes
from tests import grist
from tests.api.conftest import Serve, Server, Stage
from tests.polling import until
from worker import config, output_line
from worker.routes import Routes
from worker.settings import Settings
from worker.states import Kind, Outcome
from worker.store import old, recording, slices
from worker.store.held import Held
from worker.tables import BATCH, REQUEST_BODY

MESSAGES = [{"role": "user", "content": "Grind."}]
CHAT = {"model": "mill/flour", "messages": MESSAGES}
COMPLETION = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "tiny",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Ground."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}
REFUSAL = {"error": {"message": "Too long.", "type": "invalid_request_error", "param": None, "code": "context"}}


@pytest.fixture
def server(serve: Serve) -> Server:
    parsed = config.parse("providers: {mill: {base_url: 'http://127.0.0.1:9/v1'}}")
    return serve(routes=Routes(parsed, Settings()))


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def answer(server: Server, place: int = 0, status: int = 200, body: Any = None) -> None:
    """As the engine would, once the job was rung for."""
    slice = until(lambda: server.bell.held[place : place + 1])[0]
    claim = server.database.write(lambda session: slices.claim(session, slice, 0, grist.FAR, 60.0))
    assert claim is not None
    [job] = claim.jobs
    text = json.dumps(body or (COMPLETION if status == 200 else REFUSAL)).encode()
    line = output_line.answered(job.id, job.custom_id, status, "req_provider", text)
    outcome = Outcome.SUCCEEDED if status == 200 else Outcome.FAILED
    end = grist.end(claim, job, outcome, line=line, kind="output" if status == 200 else "error")
    server.database.write(lambda session: recording.record(session, grist.FAR, [end], [grist.start(claim)]))


def bodies(server: Server) -> list[Any]:
    return list(grist.all_of(server.database, REQUEST_BODY))


def jobs(server: Server) -> int:
    return len(grist.all_of(server.database, BATCH))


def post(server: Server, body: Any = CHAT, path: str = "chat/completions", **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    with httpx.Client(timeout=20, verify=False) as client:
        head = {"content-type": "application/json", **{name.replace("_", "-"): text for name, text in headers.items()}}
        return client.post(f"{server.url}/v1/{path}", content=content, headers=head)


def test_the_answer_is_the_providers_own(server: Server, pool: ThreadPoolExecutor) -> None:
    asked = pool.submit(lambda: server.sdk.chat.completions.with_raw_response.create(**CHAT))  # type: ignore[call-overload]
    answer(server)
    raw = asked.result()
    assert raw.http_response.content == json.dumps(COMPLETION).encode()
    assert raw.headers["x-gristmill-job"].startswith("job_")
    assert raw.headers["x-gristmill-provider-request-id"] == "req_provider"
    assert raw.headers["x-request-id"].startswith("req_")
    until(lambda: bodies(server)[0].delivered_at)


def test_an_error_is_the_providers_own(server: Server, pool: ThreadPoolExecutor) -> None:
    for place, (status, retry) in enumerate([(400, None), (500, "false"), (404, None)]):
        asked = pool.submit(post, server)
        answer(server, place, status)
        found = asked.result()
        assert (found.status_code, found.json(), found.headers.get("x-should-retry")) == (status, REFUSAL, retry)


def test_a_stream_is_replayed_and_the_request_is_sent_without_it(server: Server, pool: ThreadPoolExecutor) -> None:
    def read() -> list[Any]:
        stream = {"stream": True, "stream_options": {"include_usage": True}}
        return list(server.sdk.chat.completions.create(**CHAT, **stream))  # type: ignore[call-overload]

    asked = pool.submit(read)
    answer(server)
    chunks = asked.result()
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Ground."
    assert chunks[-1].usage.total_tokens == 2
    assert json.loads(bodies(server)[0].body) == CHAT


def test_a_stream_that_waits_is_kept_alive_and_then_tells_a_failure(
    server: Server, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "KEEP_ALIVE_SECONDS", 0.05)
    comments = threading.Event()

    def read() -> str:
        text = ""
        with httpx.stream("POST", f"{server.url}/v1/chat/completions", json={**CHAT, "stream": True}) as response:
            assert response.status_code == 200
            for part in response.iter_text():
                text += part
                if text.count(": waiting\n\n") >= 2:
                    comments.set()
        return text

    asked = pool.submit(read)
    assert comments.wait(10)
    answer(server, 0, 400)
    assert asked.result().endswith(f"data: {json.dumps(REFUSAL, separators=(',', ':'))}\n\n")


def test_completions_and_embeddings_are_held_as_well(server: Server, pool: ThreadPoolExecutor) -> None:
    for place, (path, body) in enumerate(
        [
            ("completions", {"model": "mill/flour", "prompt": "x"}),
            ("embeddings", {"model": "mill/embed", "input": "x"}),
        ]
    ):
        asked = pool.submit(post, server, body, path)
        answer(server, place, body={"object": path})
        assert asked.result().json() == {"object": path}


@pytest.mark.parametrize(
    "body, status, param, code",
    [
        (b"{", 400, None, "invalid_json"),
        (b"[]", 400, None, "invalid_json"),
        ({"messages": []}, 400, "model", "missing_required_parameter"),
        ({"model": "mill/flour"}, 400, "messages", "missing_required_parameter"),
        ({**CHAT, "messages": "x"}, 400, "messages", "invalid_body"),
        ({**CHAT, "model": "nowhere/x"}, 404, "model", "model_not_found"),
        ({**CHAT, "model": "openai/gpt-4o"}, 400, "model", "missing_api_key"),
    ],
)
def test_a_wrong_request_is_refused_at_once(server: Server, body: Any, status: int, param: str, code: str) -> None:
    found = post(server, body)
    error = found.json()["error"]
    assert (found.status_code, error["param"], error["code"]) == (status, param, code)
    assert jobs(server) == 0 and "This line" not in error["message"] and "body." not in error["message"]


def test_headers_limit_cost_and_time(server: Server, pool: ThreadPoolExecutor) -> None:
    found = post(server, x_gristmill_max_cost="0.01")
    assert found.json()["error"]["code"] == "unknown_cost" and jobs(server) == 0
    assert post(server, x_gristmill_window="soon").status_code == 400
    asked = pool.submit(post, server, x_gristmill_window="90s")
    answer(server)
    assert asked.result().status_code == 200
    [row] = grist.all_of(server.database, BATCH)
    assert row.window_seconds == 90 and row.kind == "held"


def test_a_body_may_be_long_but_not_endless(
    server: Server, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = {**CHAT, "messages": [{"role": "user", "content": "x" * (2 << 20)}]}
    asked = pool.submit(post, server, long)
    answer(server)
    assert asked.result().status_code == 200
    assert json.loads(bodies(server)[0].body) == long
    monkeypatch.setattr(guard, "LONG_BODY", 1000)
    assert post(server, long).status_code == 413
    with httpx.Client(verify=False) as client:
        head = {"content-type": "application/json"}
        sent = client.post(f"{server.url}/v1/chat/completions", content=iter([b"x" * 600] * 9), headers=head)
    assert sent.status_code == 413 and jobs(server) == 1


def leave(server: Server, **headers: str) -> None:
    """Ask, and go away without the answer."""
    before = len(server.bell.held)
    head = {"content-type": "application/json", **{name.replace("_", "-"): text for name, text in headers.items()}}
    with httpx.Client(timeout=httpx.Timeout(20, read=0.3), verify=False) as client, pytest.raises(httpx.ReadTimeout):
        client.post(f"{server.url}/v1/chat/completions", content=json.dumps(CHAT).encode(), headers=head)
    until(lambda: len(server.bell.held) > before)


def test_with_a_key_the_retried_call_gets_the_stored_answer(server: Server, pool: ThreadPoolExecutor) -> None:
    leave(server, idempotency_key="k1")
    asked = pool.submit(post, server, idempotency_key="k1")
    answer(server)
    first = asked.result()
    again = post(server, idempotency_key="k1")
    assert first.content == again.content == json.dumps(COMPLETION).encode()
    assert again.headers["idempotent-replayed"] == "true"
    assert first.headers["x-gristmill-job"] == again.headers["x-gristmill-job"] and jobs(server) == 1
    other = post(server, {**CHAT, "seed": 1}, idempotency_key="k1")
    assert (other.status_code, other.json()["error"]["type"]) == (422, "idempotency_error")


def test_what_an_sdk_resends_gets_the_answer_that_it_left_behind(server: Server, pool: ThreadPoolExecutor) -> None:
    leave(server)
    until(lambda: bodies(server)[0].abandoned_at)
    asked = pool.submit(post, server, x_stainless_retry_count="1")
    until(lambda: bodies(server)[0].abandoned_at is None)
    answer(server)
    assert asked.result().status_code == 200 and jobs(server) == 1


def test_equal_requests_on_purpose_are_two_jobs(server: Server, pool: ThreadPoolExecutor) -> None:
    """Also if one of them says that it is sent again: the other's client is still there."""
    first = pool.submit(post, server)
    until(lambda: server.bell.held)
    second = pool.submit(post, server, x_stainless_retry_count="1")
    answer(server, 0)
    answer(server, 1)
    assert first.result().headers["x-gristmill-job"] != second.result().headers["x-gristmill-job"]


def test_a_key_whose_job_was_deleted_says_so(server: Server, pool: ThreadPoolExecutor) -> None:
    """Nothing would ever answer for it."""
    asked = pool.submit(post, server, idempotency_key="k1")
    answer(server)
    asked.result()
    assert server.database.write(lambda session: old.delete_batches(session, [Kind.HELD], -1.0)) == 1
    again = post(server, idempotency_key="k1")
    assert (again.status_code, again.json()["error"]["code"]) == (404, "job_deleted")
    assert post(server, {"url": "/v1/chat/completions", "body": CHAT}, "jobs", idempotency_key="k2").status_code == 202


def test_an_answer_that_comes_as_its_client_goes_was_not_delivered(
    server: Server, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[dict[str, Any]] = []

    async def main() -> None:
        gone = asyncio.Event()
        sent: list[dict[str, Any]] = [{"type": "http.request", "body": json.dumps(CHAT).encode(), "more_body": False}]

        async def receive() -> dict[str, Any]:
            if sent:
                return sent.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            said.append(message)

        async def answered(self: Holder, job: Held) -> bytes:
            gone.set()
            return output_line.answered(job.job, None, 200, None, json.dumps(COMPLETION).encode())

        monkeypatch.setattr(Holder, "answer", answered)
        headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": headers}
        await stage.app({**scope, "query_string": b"", "client": None, "root_path": ""}, receive, send)
        await cast(Any, stage.app).state.holder.closed()

    asyncio.run(main())
    assert said[0]["status"] == routes.CLIENT_GONE
    assert bodies(server)[0].abandoned_at and bodies(server)[0].delivered_at is None


def test_two_hundred_calls_are_held_by_one_look_at_a_time(server: Server) -> None:
    asked: list[Future[httpx.Response]] = []
    with ThreadPoolExecutor(200) as pool:
        asked = [pool.submit(post, server) for _ in range(200)]
        for place in range(200):
            answer(server, place)
        assert {one.result().status_code for one in asked} == {200}
    assert jobs(server) == 200
