"""The application as a whole: its description, and garbage on every route of it."""

import json
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api import app, schemas
from tests.api.conftest import Serve, Server
from worker.database import Database

OPERATIONS = {
    "GET /v1/files",
    "POST /v1/files",
    "GET /v1/files/{file_id}",
    "DELETE /v1/files/{file_id}",
    "GET /v1/files/{file_id}/content",
    "GET /v1/batches",
    "POST /v1/batches",
    "GET /v1/batches/{batch_id}",
    "GET /v1/batches/{batch_id}/errors",
    "GET /v1/batches/{batch_id}/events",
    "GET /v1/batches/{batch_id}/jobs",
    "GET /v1/batches/{batch_id}/rows",
    "POST /v1/batches/{batch_id}",
    "POST /v1/batches/{batch_id}/cancel",
    "POST /v1/batches/{batch_id}/extend",
    "POST /v1/batches/{batch_id}/pause",
    "POST /v1/batches/{batch_id}/resume",
    "POST /v1/batches/{batch_id}/retry",
    "DELETE /v1/batches/{batch_id}",
    "GET /v1/messages/batches",
    "POST /v1/messages/batches",
    "GET /v1/messages/batches/{batch_id}",
    "DELETE /v1/messages/batches/{batch_id}",
    "POST /v1/messages/batches/{batch_id}/cancel",
    "GET /v1/messages/batches/{batch_id}/results",
    "POST /v1/chat/completions",
    "POST /v1/completions",
    "POST /v1/embeddings",
    "GET /v1/jobs",
    "POST /v1/jobs",
    "GET /v1/jobs/{job_id}",
    "POST /v1/jobs/{job_id}/cancel",
    "GET /v1/models",
    "GET /v1/limits",
    "POST /v1/limits/{scope}",
    "POST /v1/limits/{scope}/resume",
    "GET /v1/usage",
    "GET /v1/models/{model}",
    "GET /v1/webhook_event_types",
    "GET /v1/webhook_endpoints",
    "POST /v1/webhook_endpoints",
    "GET /v1/webhook_endpoints/{endpoint_id}",
    "POST /v1/webhook_endpoints/{endpoint_id}",
    "DELETE /v1/webhook_endpoints/{endpoint_id}",
    "GET /v1/webhook_endpoints/{endpoint_id}/deliveries",
    "POST /v1/webhook_endpoints/{endpoint_id}/rotate_secret",
    "POST /v1/webhook_endpoints/{endpoint_id}/test",
    "POST /v1/webhook_deliveries/{delivery_id}/replay",
    "GET /v1/webhook_secret",
    "POST /v1/webhook_secret/rotate",
    "GET /healthz",
    "GET /readyz",
}


def operations(document: dict[str, Any]) -> list[tuple[str, str]]:
    return [(method.upper(), path) for path, methods in document["paths"].items() for method in methods]


def test_the_description_names_every_route_and_no_422_that_is_never_sent(server: Server) -> None:
    document = server.http.get("/openapi.json").json()
    assert {f"{method} {path}" for method, path in operations(document)} == OPERATIONS
    sent = {
        f"{method.upper()} {path}"
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if "422" in operation["responses"]
    }
    held = {f"POST /v1/{path}" for path in ("chat/completions", "completions", "embeddings", "jobs")}
    assert (
        sent == {"POST /v1/files", "POST /v1/batches", "POST /v1/messages/batches", "POST /v1/webhook_endpoints"} | held
    )


def test_the_docs_are_served(server: Server) -> None:
    answer = server.http.get("/docs")
    assert answer.status_code == 200 and "/openapi.json" in answer.text


def test_every_answer_has_its_own_request_id(server: Server) -> None:
    ids = {server.http.get(path).headers["x-request-id"] for path in ("/healthz", "/docs", "/nothing", "/v1/files")}
    assert len(ids) == 4


@pytest.fixture
def any_server(serve: Serve, database_url: str) -> Server:
    """On SQLite and on Postgres, which refuse different things."""
    return serve(database=Database(database_url))


texts = st.text(max_size=40) | st.sampled_from(
    ["", "\x00", "\ud800", "../..", "%", "file-" + "a" * 24, "batch_" + "a" * 24]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
right = {
    "input_file_id": st.just("file-" + "a" * 24),
    "endpoint": st.just("/v1/chat/completions"),
    "completion_window": st.just("24h"),
    "metadata": st.dictionaries(texts, texts, max_size=3),
}
nearly = st.fixed_dictionaries(
    {}, optional={name: right.get(name, values) | values for name in (*schemas.REQUEST_FIELDS, "gristmill", "other")}
)
bodies = st.one_of(
    st.binary(max_size=200),
    values.map(lambda value: json.dumps(value).encode()),
    nearly.map(lambda value: json.dumps(value).encode()),
)
headers = st.fixed_dictionaries(
    {"content-type": st.sampled_from(["application/json", "multipart/form-data; boundary=x", "text/plain", ""])},
    optional={
        "x-stainless-retry-count": st.sampled_from(["0", "1", "-1", "x", "9" * 400]),
        "authorization": st.sampled_from(["Bearer x", "Bearer", ""]),
        "accept": st.just("application/binary"),
        "idempotency-key": st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=300),
        "last-event-id": st.sampled_from(["", "x", "9" * 400]),
        "expect": st.just("100-continue"),
    },
)
queries = st.dictionaries(
    st.sampled_from(
        ["limit", "after", "order", "purpose", "identity", "offset", "after_line", "after_id", "before_id", "kind", "x"]
    ),
    st.integers().map(str) | texts,
    max_size=4,
)


@pytest.mark.parametrize("operation", sorted(OPERATIONS))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_garbage_is_the_clients_fault_on_every_route(any_server: Server, operation: str, data: st.DataObject) -> None:
    method, _, path = operation.partition(" ")
    for name in ("file_id", "batch_id", "model"):
        if f"{{{name}}}" in path:
            garbage = data.draw(texts.filter(bool))
            path = path.replace(f"{{{name}}}", quote(garbage.encode("utf-8", "surrogatepass"), safe=""))
    query = "&".join(
        f"{name}={quote(value.encode('utf-8', 'surrogatepass'), safe='')}" for name, value in data.draw(queries).items()
    )
    body = data.draw(bodies) if method == "POST" else b""
    answer = any_server.http.request(method, f"{path}?{query}", content=body, headers=data.draw(headers))
    check(answer, operation)


def check(answer: httpx.Response, operation: str) -> None:
    assert answer.headers["x-request-id"].startswith("req_")
    if answer.status_code == 503 and operation == "GET /readyz":
        return
    assert answer.status_code < 500, (operation, answer.text)
    if answer.status_code >= 400:
        error, is_anthropic = answer.json()["error"], "request-id" in answer.headers
        assert set(error) == ({"message", "type"} if is_anthropic else {"message", "type", "param", "code"})
        assert isinstance(error["message"], str) and len(error["message"]) < 2_000


def test_the_application_can_be_described_without_a_server(server: Server) -> None:
    assert app.create_app(server.services).openapi()["info"]["title"] == "Gristmill"
