"""The official SDK against the real application; only the engine behind it is missing."""

import json
import socket
from typing import Any

import anthropic
import httpx
import pytest
from sqlmodel import Session

from tests import grist, rows
from tests.api.conftest import Serve, Server
from tests.grist import Worker
from worker import message_line
from worker.database import Database
from worker.states import BatchStatus, Outcome
from worker.store import api_keys, batches
from worker.tables import FILE, Batch

PATH = "/v1/messages/batches"


@pytest.fixture
def server(serve: Serve, database_url: str) -> Server:
    return serve(database=Database(database_url))


@pytest.fixture
def sdk(server: Server) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=server.url, api_key="any", max_retries=0)


def asked(id: str = "a", model: str = "simulator/tiny") -> Any:
    return {
        "custom_id": id,
        "params": {"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": f"é {id}"}]},
    }


def post(server: Server, body: Any, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return server.http.post(PATH, content=content, headers={"content-type": "application/json", **headers})


def row(server: Server, id: str) -> Batch:
    with server.database.read() as session:
        found = batches.get(session, "local", id)
    assert found is not None
    return found


def secret_of(server: Server, owner: str) -> str:
    return server.database.write(lambda session: api_keys.create(session, owner, owner))[1]


def ended(server: Server, id: str, status: BatchStatus = BatchStatus.COMPLETED) -> list[bytes]:
    """One answer and one error, as the engine would have left them."""
    good, bad = message_line.succeeded("a", b"{}"), message_line.errored("b", 400, "x", "why", None)

    def change(session: Session) -> None:
        batch = session.merge(row(server, id))
        rows.begin(session, batch)
        rows.add_result(session, batch, 2, kind="error", text=bad)
        rows.add_result(session, batch, 1, kind="output", text=good)
        rows.end(session, batch, status)

    server.database.write(change)
    return [good, bad]


def test_a_create_is_stored_as_an_input_file_and_answered_at_once(server: Server, sdk: anthropic.Anthropic) -> None:
    batch = sdk.messages.batches.create(requests=[asked("a"), asked("b", "no/where")])
    assert batch.id.startswith("msgbatch_") and batch.type == "message_batch"
    assert (batch.processing_status, batch.results_url, batch.ended_at) == ("in_progress", None, None)
    assert batch.request_counts.to_dict() == {
        "processing": 2, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0
    }  # fmt: skip
    assert (batch.expires_at - batch.created_at).days == 7
    found = row(server, batch.id)
    assert (found.kind, found.invalid_lines, server.bell.rung) == ("messages", "report", [found.number])
    with server.services.blobs.open(found.input_file_id) as blob:
        lines = [json.loads(line) for line in blob.read(0, 10_000).splitlines()]
    assert [line["body"] for line in lines] == [asked("a")["params"], asked("b", "no/where")["params"]]
    assert {line["url"] for line in lines} == {"/v1/messages"}


def test_it_is_seen_on_its_own_surface_only(server: Server, sdk: anthropic.Anthropic) -> None:
    mine = sdk.messages.batches.create(requests=[asked()])
    other = server.database.write(rows.add_batch)
    assert [one.id for one in sdk.messages.batches.list()] == [mine.id]
    assert [one.id for one in sdk.beta.messages.batches.list()] == [mine.id]
    assert [one.id for one in server.sdk.batches.list()] == [other.id]
    assert [one.id for one in server.sdk.batches.list(extra_query={"kind": "messages"})] == [mine.id]
    assert server.sdk.batches.retrieve(mine.id).endpoint == "/v1/messages"
    with pytest.raises(anthropic.NotFoundError):
        sdk.messages.batches.retrieve(other.id)
    assert server.http.get(f"{PATH}/{mine.id}?beta=true").json()["id"] == mine.id


def test_pages_go_both_ways(server: Server, sdk: anthropic.Anthropic) -> None:
    made = [sdk.messages.batches.create(requests=[asked(str(n))]).id for n in range(5)]
    newest_first = made[::-1]
    assert [one.id for one in sdk.messages.batches.list(limit=2)] == newest_first
    first = sdk.messages.batches.list(limit=2)
    assert (first.has_more, first.first_id, first.last_id) == (True, newest_first[0], newest_first[1])
    before = sdk.messages.batches.list(limit=2, before_id=newest_first[4])
    assert ([one.id for one in before.data], before.has_more) == (newest_first[2:4], True)
    last = sdk.messages.batches.list(limit=3, before_id=newest_first[2])
    assert ([one.id for one in last.data], last.has_more) == (newest_first[:2], False)
    for wrong in ({"limit": 0}, {"limit": 1001}, {"after_id": "msgbatch_x"}, {"before_id": "x"}):
        with pytest.raises(anthropic.BadRequestError):
            sdk.messages.batches.list(**wrong)
    with pytest.raises(anthropic.BadRequestError):
        sdk.messages.batches.list(after_id=made[0], before_id=made[1])


def test_results_are_streamed_when_the_batch_has_ended(server: Server, sdk: anthropic.Anthropic) -> None:
    id = sdk.messages.batches.create(requests=[asked("a"), asked("b")]).id
    with pytest.raises(anthropic.AnthropicError):
        sdk.messages.batches.results(id)
    assert server.http.get(f"{PATH}/{id}/results").status_code == 400
    lines = ended(server, id)
    batch = sdk.messages.batches.retrieve(id)
    assert batch.results_url == f"{server.url}{PATH}/{id}/results" and batch.processing_status == "ended"
    assert batch.request_counts.to_dict() == {
        "processing": 0, "succeeded": 1, "errored": 1, "canceled": 0, "expired": 0
    }  # fmt: skip
    assert [one.custom_id for one in sdk.messages.batches.results(id)] == ["a", "b"]
    answer = server.http.get(batch.results_url)
    assert answer.content == b"".join(lines) and answer.headers["content-type"] == "application/x-jsonl"


def test_what_was_stopped_is_counted_apart(server: Server, sdk: anthropic.Anthropic) -> None:
    number = grist.add(server.database, 5, kind="messages", id="msgbatch_" + "a" * 24)
    worker = Worker(server.database)
    claim = worker.begin(grist.slices_of(server.database, number)[0].id)
    worker.record(grist.end(claim, claim.jobs[0]), grist.end(claim, claim.jobs[1], Outcome.FAILED))
    worker.release(claim)
    running = sdk.messages.batches.retrieve("msgbatch_" + "a" * 24)
    assert running.request_counts.processing == 5
    canceling = sdk.messages.batches.cancel(running.id)
    assert canceling.processing_status == "canceling" and canceling.cancel_initiated_at is not None
    assert sdk.messages.batches.cancel(running.id).cancel_initiated_at == canceling.cancel_initiated_at
    grist.settle(server.database, number)
    batch = sdk.messages.batches.retrieve(running.id)
    assert batch.request_counts.to_dict() == {
        "processing": 0, "succeeded": 1, "errored": 1, "canceled": 3, "expired": 0
    }  # fmt: skip
    with pytest.raises(anthropic.BadRequestError, match="has ended"):
        sdk.messages.batches.cancel(running.id)


def test_what_has_ended_can_be_deleted(server: Server, sdk: anthropic.Anthropic) -> None:
    id = sdk.messages.batches.create(requests=[asked("a"), asked("b")]).id
    with pytest.raises(anthropic.BadRequestError, match="has not ended"):
        sdk.messages.batches.delete(id)
    ended(server, id)
    gone = sdk.messages.batches.delete(id)
    assert (gone.id, gone.type) == (id, "message_batch_deleted")
    for call in (sdk.messages.batches.retrieve, sdk.messages.batches.delete, sdk.messages.batches.cancel):
        with pytest.raises(anthropic.NotFoundError):
            call(id)
    assert sdk.messages.batches.list().data == []
    [file] = grist.all_of(server.database, FILE)
    assert file.deleted_at is not None


def test_other_owners_see_nothing(server: Server, sdk: anthropic.Anthropic) -> None:
    number = grist.add(server.database, 1, kind="messages", id="msgbatch_" + "b" * 24, owner="other")
    id = grist.batch(server.database, number).id
    for call in (sdk.messages.batches.retrieve, sdk.messages.batches.delete, sdk.messages.batches.cancel):
        with pytest.raises(anthropic.NotFoundError):
            call(id)
    assert server.http.get(f"{PATH}/{id}/results").status_code == 404
    assert sdk.messages.batches.list().data == []
    with pytest.raises(anthropic.BadRequestError):
        sdk.messages.batches.list(after_id=id)


def test_keys_are_shown_as_anthropic_s_clients_show_them(server: Server) -> None:
    ann, bob = (
        anthropic.Anthropic(base_url=server.url, api_key=secret_of(server, owner), max_retries=0)
        for owner in ("ann", "bob")
    )
    id = ann.messages.batches.create(requests=[asked()]).id
    assert [one.id for one in ann.messages.batches.list()] == [id] and bob.messages.batches.list().data == []
    with pytest.raises(anthropic.NotFoundError):
        bob.messages.batches.retrieve(id)
    with server.database.read() as session:
        found = batches.get(session, "ann", id)
    assert found is not None and found.api_key is not None
    nobody = anthropic.Anthropic(base_url=server.url, api_key="wrong", max_retries=0)
    with pytest.raises(anthropic.AuthenticationError) as caught:
        nobody.messages.batches.retrieve(id)
    assert caught.value.type == "authentication_error"


def test_a_create_that_is_sent_twice_happens_once(server: Server) -> None:
    first = post(server, {"requests": [asked()]}, **{"idempotency-key": "k"})
    again = post(server, {"requests": [asked()]}, **{"idempotency-key": "k"})
    assert again.content == first.content and again.headers["idempotent-replayed"] == "true"
    other = post(server, {"requests": [asked("b")]}, **{"idempotency-key": "k"})
    assert other.status_code == 422 and other.json()["error"]["type"] == "invalid_request_error"
    resent = post(server, {"requests": [asked()]}, **{"x-stainless-retry-count": "1"})
    assert resent.json()["id"] == first.json()["id"]
    assert len(server.stored) == 1
    assert len(server.http.get(PATH).json()["data"]) == 1
    assert [one.deleted_at is None for one in grist.all_of(server.database, FILE)].count(True) == 1


@pytest.mark.parametrize(
    ("body", "status", "type"),
    [
        (b"", 400, "invalid_request_error"),
        (b'{"requests": []}', 400, "invalid_request_error"),
        ({"requests": [asked(), asked()]}, 400, "invalid_request_error"),
        ({"requests": [{"custom_id": "a b", "params": {}}]}, 400, "invalid_request_error"),
    ],
)
def test_faults_of_the_envelope_are_said_at_once_and_leave_nothing(
    server: Server, body: Any, status: int, type: str
) -> None:
    answer = post(server, body)
    said = answer.json()
    assert (answer.status_code, said["type"], said["error"]["type"]) == (status, "error", type)
    assert said["request_id"] == answer.headers["request-id"] == answer.headers["x-request-id"]
    assert server.stored == [] and server.http.get(PATH).json()["data"] == []


def test_a_body_that_is_too_large_is_refused_by_its_length(server: Server) -> None:
    request = b"POST %b HTTP/1.1\r\nhost: %b\r\ncontent-type: application/json\r\ncontent-length: 300000000\r\n\r\n"
    host = server.url.removeprefix("http://")
    name, port = host.split(":")
    with socket.create_connection((name, int(port)), timeout=10) as connection:
        connection.sendall(request % (PATH.encode(), host.encode()))
        answer = connection.recv(65_536)
    assert b" 413 " in answer and b"request_too_large" in answer


def test_errors_of_every_layer_have_anthropic_s_shape(server: Server) -> None:
    for answer, status, type in (
        (server.http.get(f"{PATH}/msgbatch_none"), 404, "not_found_error"),
        (server.http.get("/v1/messages/nothing"), 404, "not_found_error"),
        (server.http.get("/v1/messages"), 404, "not_found_error"),
        (server.http.put(PATH, json={}), 405, "invalid_request_error"),
        (server.http.get(PATH, headers={"host": "evil.example"}), 403, "permission_error"),
        (server.http.get(PATH, headers={"origin": "http://evil.example"}), 403, "permission_error"),
        (server.http.post(PATH, content=b"{}", headers={"content-type": "text/plain"}), 415, "invalid_request_error"),
    ):
        assert (answer.status_code, answer.json()["type"], answer.json()["error"]["type"]) == (status, "error", type)
    openai = server.http.get("/v1/batches/batch_none").json()
    assert set(openai) == {"error"} and "request-id" not in server.http.get("/v1/batches").headers
