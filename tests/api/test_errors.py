"""Every failure has OpenAI's shape, and says what is wrong, where, and whether to try again."""

from typing import Any

import httpx
import openai
import pytest
from sqlalchemy.exc import OperationalError
from typing_extensions import override

from tests.api.conftest import Serve, Server
from worker.blobs import StoreBroken, StoreFull
from worker.database import DatabaseAway

JSON = {"content-type": "application/json"}
GOOD = {"input_file_id": "file-x", "endpoint": "/v1/chat/completions", "completion_window": "24h"}


def error(answer: httpx.Response) -> dict[str, Any]:
    body = answer.json()
    assert set(body) == {"error"} and set(body["error"]) == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"].startswith("req_")
    assert isinstance(body["error"]["message"], str)
    return dict(body["error"])


def test_an_unknown_url_is_404(server: Server) -> None:
    for path in ("/", "/v1", "/v1/nothing", "/v1/batches/", "/v1/files/", "/v1/batches/a/b/c", "/v1/chat"):
        answer = server.http.get(path)
        assert answer.status_code == 404
        error(answer)


def test_a_wrong_method_says_which_are_right(server: Server) -> None:
    answer = server.http.put("/v1/batches/batch_x")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
    assert error(answer)["code"] == "method_not_allowed"


@pytest.mark.parametrize("body", [b"", b"{", b"nonsense", b"\xff\xfe", b"[" * 200_000, b'{"a":' * 100_000, b"\x00"])
def test_what_is_not_json_is_400(server: Server, body: bytes) -> None:
    answer = server.http.post("/v1/batches", content=body, headers=JSON)
    assert answer.status_code == 400
    error(answer)


@pytest.mark.parametrize("body", [b"[]", b"1", b"null", b'"text"', b"NaN", b"true"])
def test_a_body_that_is_no_object_is_400(server: Server, body: bytes) -> None:
    answer = server.http.post("/v1/batches", content=body, headers=JSON)
    assert (answer.status_code, error(answer)["param"]) == (400, None)


@pytest.mark.parametrize("name", GOOD)
def test_a_missing_field_is_named(server: Server, name: str) -> None:
    answer = server.http.post("/v1/batches", json={key: value for key, value in GOOD.items() if key != name})
    found = error(answer)
    assert (answer.status_code, found["param"], found["code"]) == (400, name, "missing_required_parameter")
    assert name in found["message"]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"input_file_id": 1}, "input_file_id"),
    ({"input_file_id": None}, "input_file_id"),
    ({"endpoint": "/v1/responses"}, "endpoint"),
    ({"endpoint": "chat/completions"}, "endpoint"),
    ({"completion_window": 24}, "completion_window"),
    ({"completion_window": "soon"}, "completion_window"),
    ({"completion_window": "0h"}, "completion_window"),
    ({"metadata": []}, "metadata"),
    ({"metadata": {"a": 1}}, "metadata.a"),
    ({"metadata": {"a": None}}, "metadata.a"),
    ({"metadata": {"a" * 65: "b"}}, "metadata." + "a" * 65),
    ({"metadata": {"a": "b" * 513}}, "metadata.a"),
    ({"metadata": {"a": "b\x00"}}, "metadata.a"),
    ({"metadata": {str(n): "x" for n in range(17)}}, "metadata"),
    ({"output_expires_after": {"anchor": "created_at", "seconds": 1}}, "output_expires_after.seconds"),
    ({"output_expires_after": {"seconds": 3_600}}, "output_expires_after.anchor"),
    ({"gristmill": {"hold": "yes"}}, "gristmill.hold"),
    ({"gristmill": {"max_cost": -1}}, "gristmill.max_cost"),
    ({"gristmill": {"max_cost": 1e300}}, "gristmill.max_cost"),
    ({"gristmill": {"line_limit": 0}}, "gristmill.line_limit"),
    ({"gristmill": {"line_limit": 10**30}}, "gristmill.line_limit"),
    ({"gristmill": {"invalid_lines": "ignore"}}, "gristmill.invalid_lines"),
    ({"gristmill": {"identity": "with space"}}, "gristmill.identity"),
    ({"gristmill": {"priority": 1.5}}, "gristmill.priority"),
]


@pytest.mark.parametrize(("change", "param"), WRONG, ids=[f"{param}-{n}" for n, (_, param) in enumerate(WRONG)])
def test_a_wrong_value_is_named(server: Server, change: dict[str, Any], param: str) -> None:
    answer = server.http.post("/v1/batches", json={**GOOD, **change})
    assert (answer.status_code, error(answer)["param"]) == (400, param), answer.text


def test_an_unknown_field_names_the_nearest_one(server: Server) -> None:
    answer = server.http.post("/v1/batches", json={**GOOD, "metdata": {}})
    assert answer.status_code == 400
    assert error(answer)["message"] == "Unknown parameter: 'metdata'. Did you mean 'metadata'?"


def test_a_field_of_garbage_is_shown_cut_and_clean(server: Server) -> None:
    for name in ("x" * 100_000, "\\ud800", "\\u0000"):
        answer = server.http.post("/v1/batches", content=f'{{"{name}": 1}}'.encode(), headers=JSON)
        assert answer.status_code == 400
        assert len(error(answer)["message"]) < 500


class _Away:
    def read(self, *_: object) -> None:
        raise DatabaseAway("gone")

    write = read

    def close(self) -> None:
        pass


def test_a_database_that_is_away_is_503_and_worth_another_try(serve: Serve) -> None:
    server = serve(database=_Away())
    for answer in (server.http.get("/v1/batches"), server.http.post("/v1/batches", json=GOOD)):
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert "x-should-retry" not in answer.headers
        assert error(answer)["code"] == "database_unavailable"
    assert server.http.get("/healthz").status_code == 200


class _Broken(_Away):
    @override
    def read(self, *_: object) -> None:
        raise OperationalError("SELECT secret", None, Exception("sk-canary"))

    write = read


def test_a_bug_is_500_with_a_request_id_and_without_details(serve: Serve) -> None:
    server = serve(database=_Broken())
    answer = server.http.get("/v1/batches")
    assert (answer.status_code, answer.headers["x-should-retry"]) == (500, "false")
    assert error(answer)["type"] == "server_error"
    assert "secret" not in answer.text and "canary" not in answer.text


@pytest.mark.parametrize(("failure", "status"), [(StoreFull("full"), 507), (StoreBroken("broken"), 500)])
def test_a_file_store_that_fails_says_so_and_keeps_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch, failure: Exception, status: int
) -> None:
    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr("worker.blobs.Upload.write", fail)
    with pytest.raises(openai.InternalServerError) as raised:
        server.sdk.files.create(file=("a", b"x"), purpose="batch")
    assert raised.value.status_code == status
    assert raised.value.response.headers["x-should-retry"] == "false"
    assert server.stored == []
