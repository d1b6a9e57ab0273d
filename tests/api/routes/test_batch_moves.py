from typing import Any

import openai
import pytest
from sqlmodel import select

from tests import grist, rows
from tests.api.conftest import Server
from tests.grist import Worker
from worker.states import BatchStatus, Outcome
from worker.tables import Batch


def stored(server: Server, id: str) -> Batch:
    with server.database.read() as session:
        return session.exec(select(Batch).where(Batch.id == id)).one()


def waiting(server: Server) -> str:
    return server.database.write(lambda session: rows.add_batch(session).id)


def running(server: Server, **columns: Any) -> str:
    return grist.batch(server.database, grist.add(server.database, 2, **columns)).id


def completed(server: Server) -> Batch:
    """Two lines, the second of which failed."""
    number = grist.add(server.database, 2)
    worker = Worker(server.database)
    [slice] = grist.slices_of(server.database, number)
    claim = worker.begin(slice.id)
    good, bad = claim.jobs
    worker.record(grist.end(claim, good), grist.end(claim, bad, Outcome.FAILED))
    assert grist.settle(server.database, number) == "completed"
    return grist.batch(server.database, number)


def post(server: Server, id: str, act: str, **said: Any) -> Any:
    return server.http.post(f"/v1/batches/{id}/{act}", json=said)


def message(answer: Any) -> str:
    assert answer.headers["x-should-retry"] == "false"
    return str(answer.json()["error"]["message"])


def test_retry_begins_a_generation_that_runs_at_once(server: Server) -> None:
    before = completed(server)
    first = server.http.get(f"/v1/batches/{before.id}").json()
    answer = post(server, before.id, "retry", max_cost=3)
    batch = answer.json()
    assert (answer.status_code, batch["status"], batch["error_file_id"]) == (200, "in_progress", None)
    assert batch["request_counts"] == {"total": 2, "completed": 1, "failed": 0}
    mine = batch["gristmill"]
    assert (mine["generation"], mine["open"], mine["paused"], mine["max_cost"]) == (2, 1, False, 3.0)
    assert {mine["output_file_id"], mine["error_file_id"]}.isdisjoint((first["output_file_id"], first["error_file_id"]))


def test_what_cannot_be_retried_says_why(server: Server) -> None:
    answer = post(server, running(server), "retry")
    assert answer.status_code == 409 and "when the batch has ended" in message(answer)
    clean = server.database.write(lambda session: rows.end(session, rows.add_batch(session)).id)
    answer = post(server, clean, "retry")
    assert answer.status_code == 409 and "No line of the batch can run again" in message(answer)
    assert post(server, "batch_x", "retry").status_code == 404
    assert post(server, clean, "retry", retry_failed=True).status_code == 400


@pytest.mark.parametrize(("window", "seconds"), [("3d", 259_200), ("24h", 86_400), ("none", None)])
def test_extend_moves_the_end_from_now_on(server: Server, window: str, seconds: int | None) -> None:
    for id in (waiting(server), running(server)):
        answer = post(server, id, "extend", completion_window=window)
        assert (answer.status_code, answer.json()["completion_window"]) == (200, window)
        ends = answer.json()["expires_at"]
        now = server.database.now()
        assert ends is None if seconds is None else now + seconds - 60 < ends <= now + seconds
        assert stored(server, id).window_seconds == seconds


def test_what_was_blocked_before_does_not_move_the_new_end(server: Server) -> None:
    id = running(server, blocked_since=1.0)
    post(server, id, "extend", completion_window="3d")
    row = stored(server, id)
    assert row.expires_at is not None and row.blocked_since == row.expires_at - 259_200


def test_an_expired_batch_is_not_extended_but_told_of_retry(server: Server) -> None:
    at_rest = server.database.write(lambda session: rows.end(session, rows.add_batch(session), BatchStatus.EXPIRED).id)
    for id in (at_rest, running(server, stop="expire", stop_at=1.0)):
        answer = post(server, id, "extend", completion_window="3d")
        assert answer.status_code == 409 and f"POST /v1/batches/{id}/retry" in message(answer)


def test_what_has_ended_or_is_ending_is_not_extended(server: Server) -> None:
    ended = server.database.write(lambda session: rows.end(session, rows.add_batch(session)).id)
    cancelling = running(server)
    assert post(server, cancelling, "cancel").status_code == 200
    for id, status in ((ended, "completed"), (cancelling, "cancelling")):
        answer = post(server, id, "extend", completion_window="3d")
        assert (answer.status_code, message(answer)) == (409, f"Cannot extend a batch with status '{status}'.")
    assert post(server, "batch_x", "extend", completion_window="3d").status_code == 404


@pytest.mark.parametrize(
    "said", [{}, {"completion_window": "soon"}, {"completion_window": None}, {"completion_window": 3}]
)
def test_a_window_without_meaning_is_400(server: Server, said: dict[str, Any]) -> None:
    answer = post(server, waiting(server), "extend", **said)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "completion_window")


def test_the_priority_of_a_batch_may_change(server: Server) -> None:
    id = waiting(server)
    changed = server.http.post(f"/v1/batches/{id}", json={"gristmill": {"priority": 7}})
    assert (changed.status_code, changed.json()["gristmill"]["priority"]) == (200, 7)
    assert stored(server, id).priority == 7
    assert server.http.post("/v1/batches/batch_x", json={"gristmill": {"priority": 7}}).status_code == 404


@pytest.mark.parametrize(
    ("said", "param"),
    [
        ({}, "gristmill"),
        ({"gristmill": {}}, "gristmill.priority"),
        ({"gristmill": {"priority": 1 << 15}}, "gristmill.priority"),
        ({"gristmill": {"priority": 1, "hold": True}}, "gristmill.hold"),
        ({"gristmill": {"priority": 1}, "metadata": {}}, "metadata"),
    ],
)
def test_nothing_else_may_change(server: Server, said: dict[str, Any], param: str) -> None:
    answer = server.http.post(f"/v1/batches/{waiting(server)}", json=said)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize("body", [None, {}, "json"])
def test_cancel_takes_an_empty_body_or_none(server: Server, body: Any) -> None:
    id = waiting(server)
    sent: dict[str, Any] = {"json": {}} if body == {} else {"headers": {"content-type": "application/json"}}
    sent = {} if body is None else sent
    first = server.http.post(f"/v1/batches/{id}/cancel", **sent)
    assert first.status_code == 200
    assert first.json()["status"] == "cancelling" and first.json()["cancelling_at"] >= first.json()["created_at"]
    assert server.http.post(f"/v1/batches/{id}/cancel").json() == first.json()


@pytest.mark.parametrize("status", ["completed", "failed", "expired", "cancelled"])
def test_a_batch_at_rest_cannot_be_cancelled_and_sdks_do_not_insist(server: Server, status: str) -> None:
    batch = server.database.write(lambda session: rows.end(session, rows.add_batch(session), BatchStatus(status)))
    with pytest.raises(openai.ConflictError) as raised:
        server.sdk.batches.cancel(batch.id)
    assert raised.value.response.headers["x-should-retry"] == "false"
    assert raised.value.body == {
        "message": f"Cannot cancel a batch with status '{status}'.",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }


def test_pause_and_resume(server: Server) -> None:
    id = waiting(server)
    assert server.http.post(f"/v1/batches/{id}/pause").json()["gristmill"]["paused"] is True
    resumed = server.http.post(f"/v1/batches/{id}/resume", json={"max_cost": 2, "line_limit": 5}).json()
    assert (resumed["gristmill"]["paused"], resumed["gristmill"]["max_cost"]) == (False, 2.0)
    again = server.http.post(f"/v1/batches/{id}/resume").json()["gristmill"]
    assert (again["max_cost"], again["line_limit"]) == (2.0, 5)
    lifted = server.http.post(f"/v1/batches/{id}/resume", json={"max_cost": None}).json()["gristmill"]
    assert (lifted["max_cost"], lifted["line_limit"]) == (None, 5)


def test_failed_lines_can_be_asked_to_run_again(server: Server) -> None:
    id = waiting(server)
    answer = server.http.post(f"/v1/batches/{id}/resume", json={"retry_failed": True})
    assert answer.status_code == 409
    assert "when the batch has ended" in answer.json()["error"]["message"]
    unknown = server.http.post("/v1/batches/batch_x/resume", json={"retry_failed": True})
    assert unknown.status_code == 404
