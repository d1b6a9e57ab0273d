from typing import Any

import httpx
import httpx2
import openai
import pytest
from sqlmodel import Session

from tests import polling, rows
from tests.api.conftest import Serve, Server
from worker.states import BatchStatus
from worker.store import batches
from worker.tables import Batch, LineError, Tally


@pytest.fixture
def file_id(server: Server) -> str:
    return server.sdk.files.create(file=("in.jsonl", b"{}\n"), purpose="batch").id


def create(server: Server, file_id: str, **options: Any) -> openai.types.Batch:
    said = {"endpoint": "/v1/chat/completions", "completion_window": "24h", **options}
    return server.sdk.batches.create(input_file_id=file_id, **said)


def own(batch: openai.types.Batch) -> dict[str, Any]:
    assert batch.model_extra is not None
    return dict(batch.model_extra["gristmill"])


def stored(server: Server, id: str) -> Batch:
    with server.database.read() as session:
        batch = batches.get(session, "local", id)
    assert batch is not None
    return batch


def test_a_batch_begins_validating_with_nothing_null_that_clients_read(server: Server, file_id: str) -> None:
    batch = create(server, file_id)
    assert batch.status == "validating"
    assert batch.request_counts is not None
    assert batch.request_counts.model_dump() == {"total": 0, "completed": 0, "failed": 0}
    assert batch.metadata == {}
    assert batch.expires_at == batch.created_at + 7 * 86_400
    assert (batch.errors, batch.usage, batch.output_file_id, batch.error_file_id) == (None, None, None, None)
    assert server.sdk.batches.retrieve(batch.id) == batch
    number = stored(server, batch.id).number
    polling.until(lambda: server.bell.rung == [number])


def test_what_a_client_says_of_its_batch_is_kept(server: Server, file_id: str) -> None:
    metadata = {"run": "7", "é": "日本 🙂"}
    batch = create(
        server,
        file_id,
        metadata=metadata,
        output_expires_after={"anchor": "created_at", "seconds": 3_600},
        extra_body={
            "gristmill": {
                "hold": True,
                "max_cost": 1.25,
                "allow_unknown_cost": True,
                "line_limit": 9,
                "invalid_lines": "report",
                "identity": "sha256:abc",
                "priority": -3,
            }
        },
    )
    assert batch.metadata == metadata
    shown = own(batch)
    assert (shown["paused"], shown["max_cost"], shown["line_limit"], shown["identity"], shown["priority"]) == (
        True,
        1.25,
        9,
        "sha256:abc",
        -3,
    )
    row = stored(server, batch.id)
    assert (row.max_cost, row.invalid_lines, row.output_expires_after) == (1_250_000_000_000, "report", 3_600)


@pytest.mark.parametrize(("window", "seconds"), [("24h", 86_400), ("90m", 5_400), ("none", None)])
def test_windows_are_told_truly(serve: Serve, window: Any, seconds: int | None) -> None:
    server = serve(day_window_seconds=86_400)
    file = server.sdk.files.create(file=("in.jsonl", b"{}\n"), purpose="batch")
    batch = create(server, file.id, completion_window=window)
    assert batch.completion_window == window
    assert batch.expires_at == (None if seconds is None else batch.created_at + seconds)


def test_explicit_nulls_mean_nothing_said(server: Server, file_id: str) -> None:
    body = {"metadata": None, "output_expires_after": None, "gristmill": None}
    assert create(server, file_id, extra_body=body).metadata == {}


def test_a_missing_or_wrong_file_is_400_and_named(server: Server) -> None:
    vision = server.sdk.files.create(file=("a.png", b"x"), purpose="vision")
    for id in ("file-abc", "", "x" * 10_000, "file-" + "a" * 24, vision.id):
        with pytest.raises(openai.BadRequestError) as raised:
            create(server, id)
        assert raised.value.param == "input_file_id"


def resend(server: Server, body: dict[str, Any], count: str) -> httpx.Response:
    return server.http.post("/v1/batches", json=body, headers={"x-stainless-retry-count": count})


def test_a_resent_create_is_the_same_batch(server: Server, file_id: str) -> None:
    body = {"input_file_id": file_id, "endpoint": "/v1/embeddings", "completion_window": "24h"}
    first = resend(server, body, "0").json()["id"]
    assert resend(server, body, "1").json()["id"] == first
    assert resend(server, dict(reversed(body.items())), "2").json()["id"] == first
    assert resend(server, body, "0").json()["id"] != first
    assert resend(server, {**body, "metadata": {"a": "b"}}, "1").json()["id"] != first
    polling.until(lambda: len(server.bell.rung) == 3)
    for odd in ("-1", "one", "1.5", "9" * 5_000, ""):
        assert resend(server, body, odd).status_code in (200, 400, 431)


def test_the_sdk_resends_a_lost_answer_and_gets_one_batch(server: Server, file_id: str) -> None:
    lost = [True]

    def lose(request: httpx2.Request) -> httpx2.Response:
        with httpx2.Client() as client:
            answer = client.send(request)
        if lost.pop() if lost else False:
            raise httpx2.ReadError("the answer was lost", request=request)
        return httpx2.Response(answer.status_code, headers=answer.headers, content=answer.content)

    with httpx2.Client(transport=httpx2.MockTransport(lose)) as client:
        sdk = openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=2, http_client=client)
        batch = sdk.batches.create(input_file_id=file_id, endpoint="/v1/chat/completions", completion_window="24h")
    assert [other.id for other in server.sdk.batches.list()] == [batch.id]


def test_the_sdk_pages_through_everything_once(server: Server, file_id: str) -> None:
    made = [create(server, file_id).id for _ in range(5)]
    assert [batch.id for batch in server.sdk.batches.list(limit=2)] == list(reversed(made))
    page = server.http.get("/v1/batches?limit=5").json()
    assert (page["has_more"], page["first_id"], page["last_id"]) == (False, made[-1], made[0])


def test_a_run_is_found_by_its_identity(server: Server, file_id: str) -> None:
    create(server, file_id)
    mine = create(server, file_id, extra_body={"gristmill": {"identity": "abc"}})
    found = server.http.get("/v1/batches", params={"identity": "abc"}).json()
    assert [batch["id"] for batch in found["data"]] == [mine.id]


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=", "after=batch_x", "identity=%00", "after="])
def test_a_wrong_page_is_400(server: Server, query: str) -> None:
    answer = server.http.get(f"/v1/batches?{query}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, query.partition("=")[0])


def test_an_unknown_batch_is_404(server: Server) -> None:
    for id in ("batch_x", "x" * 5_000, "batch_" + "a" * 24):
        for call in (server.sdk.batches.retrieve, server.sdk.batches.cancel):
            with pytest.raises(openai.NotFoundError) as raised:
                call(id)
            assert str(raised.value.body).count("No batch found with id")


def test_every_faulty_line_of_a_failed_batch_is_shown(server: Server) -> None:
    def fail(session: Session) -> Batch:
        batch = rows.add_batch(session)
        assert batch.number is not None
        for line, param in ((0, None), (3, "url"), (7, "body.model")):
            session.add(
                LineError(
                    batch=batch.number, line=line, owner="local", code="invalid_url", message=f"no {line}", param=param
                )
            )
        return rows.end(session, batch, BatchStatus.FAILED)

    batch = server.database.write(fail)
    shown = server.sdk.batches.retrieve(batch.id)
    assert shown.status == "failed" and shown.failed_at is not None and shown.errors is not None
    assert shown.errors.object == "list" and shown.errors.data is not None
    assert [(error.line, error.param) for error in shown.errors.data] == [(None, None), (3, "url"), (7, "body.model")]
    rest = server.http.get(f"/v1/batches/{batch.id}/errors?after_line=3").json()
    assert [error["line"] for error in rest["data"]] == [7]


def test_progress_counts_usage_and_cost_per_model(server: Server) -> None:
    def running(session: Session) -> Batch:
        batch = rows.begin(session, rows.add_batch(session))
        assert batch.number is not None
        batch.total, batch.completed, batch.failed, batch.open = 10, 6, 1, 3
        batch.input_tokens, batch.cached_tokens, batch.output_tokens, batch.reasoning_tokens = 100, 40, 50, 20
        batch.cost, batch.unknown_cost = 1_500_000_000_000, 1
        session.add(
            Tally(
                batch=batch.number,
                route="openai/priced",
                owner="local",
                lines=9,
                completed=6,
                estimated_input_tokens=1_000,
                estimated_output_tokens=500,
                input_price=1_000_000,
                output_price=4_000_000,
                cost=1_500_000_000_000,
            )
        )
        session.add(Tally(batch=batch.number, route="unpriced", owner="local", lines=1, unknown_cost=1))
        return batch

    shown = server.sdk.batches.retrieve(server.database.write(running).id)
    assert shown.usage is not None
    assert shown.usage.model_dump() == {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 40},
        "output_tokens": 50,
        "output_tokens_details": {"reasoning_tokens": 20},
        "total_tokens": 150,
    }
    mine = own(shown)
    assert (mine["open"], mine["cost_usd"], mine["unknown_cost"]) == (3, 1.5, 1)
    priced, unpriced = mine["models"]
    assert (priced["model"], priced["estimated_cost_usd"], priced["cost_usd"]) == ("openai/priced", 0.003, 1.5)
    assert (unpriced["estimated_cost_usd"], unpriced["cost_usd"], unpriced["unknown_cost"]) == (None, None, 1)


def test_a_completed_batch_without_a_success_has_no_output_file(server: Server) -> None:
    def failed_only(session: Session) -> Batch:
        batch = rows.begin(session, rows.add_batch(session))
        rows.add_result(session, batch, 1, kind="error")
        return rows.end(session, batch)

    shown = server.sdk.batches.retrieve(server.database.write(failed_only).id)
    assert shown.status == "completed" and shown.output_file_id is None and shown.error_file_id is not None
