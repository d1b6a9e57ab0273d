import pytest

from tests import grist
from tests.api.conftest import Server
from tests.grist import Worker
from worker.states import Outcome


def test_failed_lines_tell_what_was_tried(server: Server) -> None:
    number = grist.add(server.database, 3)
    worker = Worker(server.database)
    [slice] = grist.slices_of(server.database, number)
    claim = worker.begin(slice.id)
    started = 1_800_000_000_500_000_000
    worker.record(
        grist.end(claim, claim.jobs[0]),
        grist.end(claim, claim.jobs[1], Outcome.RETRY, attempt=started - 1, status_code=503, cost=None),
        grist.end(claim, claim.jobs[1], Outcome.FAILED, attempt=started, status_code=400, request_id="req-9"),
    )
    id = grist.batch(server.database, number).id
    answer = server.http.get(f"/v1/batches/{id}/jobs", params={"status": "failed"}).json()
    assert (answer["object"], answer["last_line"], answer["has_more"]) == ("list", 2, False)
    [job] = answer["data"]
    retried, failed = job.pop("attempts")
    assert job == {
        "object": "batch.job",
        "line": 2,
        "custom_id": "line-2",
        "url": "/v1/chat/completions",
        "model": grist.ROUTE,
        "status": "failed",
        "generation": 1,
        "error_code": "bad_request",
        "attempts_total": 2,
    }
    assert (retried["outcome"], retried["status_code"], retried["cost_usd"]) == ("retry", 503, None)
    assert failed == {
        "started_at": 1_800_000_000.5,
        "seconds": 0.5,
        "generation": 1,
        "deployment": grist.ROUTE,
        "fallback": None,
        "outcome": "failed",
        "status_code": 400,
        "error_code": "bad_request",
        "request_id": "req-9",
        "model": None,
        "input_tokens": None,
        "cached_tokens": None,
        "output_tokens": None,
        "reasoning_tokens": None,
        "cost_usd": 0.0,
    }


def test_pages_follow_each_other_by_line(server: Server) -> None:
    id = grist.batch(server.database, grist.add(server.database, 5)).id
    after, seen = 0, []
    more = True
    while more:
        answer = server.http.get(f"/v1/batches/{id}/jobs", params={"after": after, "limit": 2}).json()
        seen += [job["line"] for job in answer["data"]]
        after, more = answer["last_line"], answer["has_more"]
    assert seen == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("query", ["status=done", "after=-1", "after=99999999999", "limit=0", "limit=1001"])
def test_a_wrong_page_is_400(server: Server, query: str) -> None:
    id = grist.batch(server.database, grist.add(server.database, 1)).id
    answer = server.http.get(f"/v1/batches/{id}/jobs?{query}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, query.partition("=")[0])
    assert server.http.get("/v1/batches/batch_x/jobs").status_code == 404


def test_another_owners_lines_are_not_found(server: Server) -> None:
    id = grist.batch(server.database, grist.add(server.database, 1, owner="somebody")).id
    assert server.http.get(f"/v1/batches/{id}/jobs").status_code == 404
