import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.api.conftest import Server
from tests.api.routes.test_held import CHAT, COMPLETION, answer, bodies, jobs, server

__all__ = ["server"]
ONE = {"url": "/v1/chat/completions", "body": CHAT}


def create(server: Server, body: Any = ONE, **headers: str) -> Any:
    return server.http.post("/v1/jobs", json=body, headers={k.replace("_", "-"): v for k, v in headers.items()})


def get(server: Server, id: str) -> Any:
    return server.http.get(f"/v1/jobs/{id}").json()


def test_a_job_is_polled_where_it_says(server: Server) -> None:
    found = create(server, {**ONE, "custom_id": "mine", "metadata": {"a": "b"}})
    job = found.json()
    assert found.status_code == 202 and found.headers["location"] == f"/v1/jobs/{job['id']}"
    assert (job["object"], job["status"], job["custom_id"], job["metadata"]) == ("job", "queued", "mine", {"a": "b"})
    answer(server)
    done = server.http.get(found.headers["location"]).json()
    assert (done["status"], done["model"], done["error"], done["attempts"]) == ("completed", "mill/flour", None, 1)
    assert done["response"] == {"status_code": 200, "request_id": "req_provider", "body": COMPLETION}
    assert done["usage"]["total_tokens"] == 18 and done["completed_at"] >= done["created_at"]


def test_prefer_waits_for_the_answer_and_no_longer(server: Server) -> None:
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(create, server, ONE, prefer="respond-async, wait=20")
        answer(server, 0, 400)
        found = asked.result()
    assert (found.status_code, found.json()["status"]) == (200, "failed")
    assert found.headers["preference-applied"] == "wait=20"
    late = create(server, ONE, prefer="wait=0")
    assert (late.status_code, late.json()["status"], late.json()["response"]) == (202, "queued", None)


def test_several_requests_are_several_jobs_or_none(server: Server) -> None:
    found = create(server, {"requests": [ONE, {**ONE, "custom_id": "b"}]})
    assert found.status_code == 202 and [one["custom_id"] for one in found.json()["data"]] == [None, "b"]
    wrong = create(server, {"requests": [ONE, {**ONE, "body": {"model": "mill/flour"}}]})
    assert wrong.status_code == 400 and wrong.json()["error"]["param"] == "requests[1].body.messages"
    assert create(server, {"requests": [ONE] * 101}).status_code == 400
    assert jobs(server) == 2


@pytest.mark.parametrize(
    "body, param",
    [
        ({**ONE, "url": "/v1/nothing"}, "url"),
        ({**ONE, "metdata": {}}, "metdata"),
        ({"url": "/v1/embeddings"}, "body"),
        ({**ONE, "method": "GET"}, "method"),
        ({**ONE, "completion_window": "soon"}, "completion_window"),
        ({**ONE, "body": {**CHAT, "stream": True}}, "body.stream"),
        ({"requests": []}, "requests"),
    ],
)
def test_a_wrong_request_is_refused(server: Server, body: Any, param: str) -> None:
    found = create(server, body)
    assert (found.status_code, found.json()["error"]["param"], jobs(server)) == (400, param, 0)


def test_the_digits_of_a_body_are_kept(server: Server) -> None:
    text = b'{"url":"/v1/chat/completions","body": {"temperature": 1.50e-1, "model": "mill/flour", "messages":[]}}'
    head = {"content-type": "application/json"}
    assert server.http.post("/v1/jobs", content=text, headers=head).status_code == 202
    assert bodies(server)[0].body == b'{"temperature": 1.50e-1, "model": "mill/flour", "messages":[]}'


def test_a_key_makes_a_job_once(server: Server) -> None:
    first, again = create(server, idempotency_key="k"), create(server, idempotency_key="k")
    assert first.json()["id"] == again.json()["id"] and again.headers["idempotent-replayed"] == "true"
    assert create(server, {**ONE, "custom_id": "x"}, idempotency_key="k").status_code == 422
    assert jobs(server) == 1


def test_jobs_are_listed_newest_first_and_never_among_batches(server: Server) -> None:
    ids = [create(server).json()["id"] for _ in range(3)]
    page = server.http.get("/v1/jobs", params={"limit": 2}).json()
    assert [one["id"] for one in page["data"]] == ids[:0:-1] and page["has_more"]
    rest = server.http.get("/v1/jobs", params={"after": page["last_id"]}).json()
    assert [one["id"] for one in rest["data"]] == ids[:1] and not rest["has_more"]
    assert server.http.get("/v1/batches").json()["data"] == []
    assert server.http.get(f"/v1/batches/{ids[0]}").status_code == 404
    assert server.http.get("/v1/files").json()["data"] == []


def test_a_job_is_cancelled_once(server: Server) -> None:
    id = create(server).json()["id"]
    assert server.http.post(f"/v1/jobs/{id}/cancel").status_code == 200
    other = create(server).json()["id"]
    answer(server, 1)
    assert server.http.post(f"/v1/jobs/{other}/cancel").status_code == 409
    assert server.http.post("/v1/jobs/job_none/cancel").status_code == 404
    assert get(server, "job_none")["error"]["message"] == "No job found with id 'job_none'."
    assert json.dumps(get(server, other)["response"]["body"]) == json.dumps(COMPLETION)
