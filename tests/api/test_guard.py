"""The keyless mode: this machine's programs only."""

import socket

import httpx
import pytest

from api import guard
from tests.api.conftest import Serve, Server

JSON = {"content-type": "application/json"}

LOOPBACK = ["127.0.0.1", "127.0.0.1:8000", "localhost", "LOCALHOST:1", "[::1]", "[::1]:8000", "127.8.9.1"]
FOREIGN = [
    "evil.example",
    "evil.example:8000",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "localhost.",
    "10.0.0.1",
    "0.0.0.0",
    "[::]",
    "[::ffff:10.0.0.1]",
    "user@127.0.0.1",
    "127.0.0.1/x",
    "127.1",
    "2130706433",
    "0x7f000001",
    "[127.0.0.1",
    "127.0.0.1:port",
    "",
]


@pytest.mark.parametrize("host", LOOPBACK)
def test_loopback_names_get_in(server: Server, host: str) -> None:
    assert server.http.get("/healthz", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", FOREIGN)
def test_every_other_name_stays_out(server: Server, host: str) -> None:
    for path in ("/healthz", "/v1/batches", "/docs", "/openapi.json", "/nowhere"):
        answer = server.http.get(path, headers={"host": host})
        assert answer.status_code == 403
        assert answer.json()["error"]["code"] == "host_not_allowed"
        assert answer.headers["x-request-id"]


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "https://{own}", "http://localhost:1", "file://", ""]
)
@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/files"), ("POST", "/v1/batches"), ("GET", "/v1/files")])
def test_foreign_origins_are_refused(server: Server, origin: str, method: str, path: str) -> None:
    own = server.url.removeprefix("http://")
    answer = server.http.request(method, path, headers={"origin": origin.format(own=own)})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "origin_not_allowed")


def test_our_own_pages_may_ask(server: Server) -> None:
    assert server.http.get("/v1/files", headers={"origin": server.url}).status_code == 200


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""]
)
@pytest.mark.parametrize("path", ["/v1/batches", "/v1/batches/batch_x/cancel", "/v1/batches/batch_x/resume"])
def test_a_body_must_be_json(server: Server, kind: str, path: str) -> None:
    answer = server.http.post(path, content=b"{}", headers={"content-type": kind})
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_media_type")


def test_a_page_cannot_hide_a_body_behind_a_missing_length(server: Server) -> None:
    answer = server.http.post("/v1/batches", content=iter([b"{}"]), headers={"content-type": "text/plain"})
    assert answer.status_code == 415


def test_a_json_body_has_an_end(server: Server) -> None:
    json = {"content-type": "application/json; charset=utf-8"}
    for body in (b" " * (guard.JSON_BODY + 1), iter([b" " * 65_536] * 32)):
        answer = server.http.post("/v1/batches", content=body, headers=json)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
    assert server.http.post("/v1/batches", content=b" " * guard.JSON_BODY, headers=json).status_code == 400


@pytest.mark.parametrize("path", ["/v1/batches", "/v1/chat/completions"])
def test_a_body_that_stands_still_is_given_up(serve: Serve, path: str) -> None:
    server = serve(stall_seconds=0.2)
    with socket.create_connection(("127.0.0.1", httpx.URL(server.url).port or 0), timeout=10) as client:
        head = (
            f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n"
        )
        client.sendall(head.encode() + b'{"model"')
        assert client.recv(4_096).startswith(b"HTTP/1.1 408 ")


def test_what_is_open_to_all_reads_no_body(server: Server) -> None:
    assert server.http.request("GET", "/healthz", content=iter([b" " * 65_536] * 32), headers=JSON).status_code == 200


def test_no_cors_header_is_ever_sent(server: Server) -> None:
    asking = {"origin": server.url, "access-control-request-method": "POST"}
    for answer in (server.http.options("/v1/batches", headers=asking), server.http.get("/healthz", headers=asking)):
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_web_sockets_are_refused(server: Server) -> None:
    upgrade = {
        "connection": "upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    assert httpx.get(f"{server.url}/v1/batches", headers=upgrade).status_code in (200, 403, 426)
