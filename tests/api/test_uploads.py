"""Uploads byte by byte: every form that clients send, and every way in which they can go wrong."""

import socket
import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from api import uploads
from tests import polling
from tests.api.conftest import Serve, Server

BOUNDARY = b"xXx"
FORM = {"content-type": "multipart/form-data; boundary=xXx"}
PURPOSE = (b'form-data; name="purpose"', b"batch")
FILE = (b'form-data; name="file"; filename="in.jsonl"', b'{"custom_id":"1"}\n{"custom_id":"2"}')


def form(*parts: tuple[bytes, bytes]) -> bytes:
    head = b"".join(
        b"--%b\r\nContent-Disposition: %b\r\n\r\n%b\r\n" % (BOUNDARY, disposition, value)
        for disposition, value in parts
    )
    return head + b"--%b--\r\n" % BOUNDARY


def post(server: Server, *parts: tuple[bytes, bytes]) -> httpx.Response:
    return server.http.post("/v1/files", content=form(*parts), headers=FORM)


def content(server: Server, answer: httpx.Response) -> bytes:
    assert answer.status_code == 200, answer.text
    return server.http.get(f"/v1/files/{answer.json()['id']}/content").content


@pytest.mark.parametrize("parts", [(PURPOSE, FILE), (FILE, PURPOSE)], ids=["purpose first", "file first"])
def test_parts_come_in_any_order(server: Server, parts: tuple[tuple[bytes, bytes], ...]) -> None:
    assert content(server, post(server, *parts)) == FILE[1]


def test_a_stream_without_a_length_is_taken_byte_by_byte(server: Server) -> None:
    def drops() -> Iterator[bytes]:
        body = form(FILE, PURPOSE)
        for at in range(len(body)):
            yield body[at : at + 1]

    answer = server.http.post("/v1/files", content=drops(), headers=FORM)
    assert answer.request.headers["transfer-encoding"] == "chunked"
    assert content(server, answer) == FILE[1]


@pytest.mark.parametrize("cut", [1, 2, 3, 7, 64, 65_536])
def test_bytes_that_look_like_the_boundary_are_kept(server: Server, cut: int) -> None:
    data = b"\r\n--xX\r\n--xXy\r\n-\r\r\n" * 500 + b"\r"
    body = form((FILE[0], data), PURPOSE)
    pieces = (body[at : at + cut] for at in range(0, len(body), cut))
    assert content(server, server.http.post("/v1/files", content=pieces, headers=FORM)) == data


def test_an_expiry_comes_as_two_bracketed_fields(server: Server) -> None:
    anchor = (b'form-data; name="expires_after[anchor]"', b"created_at")
    seconds = (b'form-data; name="expires_after[seconds]"', b"7200")
    file = post(server, anchor, FILE, seconds, PURPOSE).json()
    assert file["expires_at"] == file["created_at"] + 7_200


@pytest.mark.parametrize(
    ("anchor", "seconds", "param"),
    [
        (b"created_at", None, "expires_after.seconds"),
        (None, b"7200", "expires_after.anchor"),
        (b"now", b"7200", "expires_after.anchor"),
        (b"created_at", b"3599", "expires_after.seconds"),
        (b"created_at", b"2592001", "expires_after.seconds"),
        (b"created_at", b"1e4", "expires_after.seconds"),
        (b"created_at", "٧٢٠٠".encode(), "expires_after.seconds"),
        (b"created_at", b"9" * 900, "expires_after.seconds"),
    ],
)
def test_a_wrong_expiry_is_refused(server: Server, anchor: bytes | None, seconds: bytes | None, param: str) -> None:
    fields = ((b"anchor", anchor), (b"seconds", seconds))
    extra = [(b'form-data; name="expires_after[%b]"' % name, value) for name, value in fields if value is not None]
    answer = post(server, PURPOSE, FILE, *extra)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert server.stored == []


NAMES = [
    b"../../x",
    b"/etc/passwd",
    b"%2e%2e%2f%2e%2e%2fx",
    b"..\\\\..\\\\x",
    b"CON",
    b"nul.jsonl",
    b"a\x00b",
    b"a\x1b[31mb",
    "‮gnp.exe".encode(),
    "日本語 émoji 🙂".encode(),
    b"\xff\xfe",
    b"%0d%0aSet-Cookie: a=b",
    b'quo\\"te',
    b"x" * 4_096,
    b"",
]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_name_is_a_label_and_nothing_else(server: Server, name: bytes) -> None:
    answer = post(server, (b'form-data; name="file"; filename="%b"' % name, b"data"), PURPOSE)
    assert content(server, answer) == b"data"
    label = answer.json()["filename"]
    assert 1 <= len(label) <= 255
    assert label.isprintable() or "‮" in label
    [stored] = server.stored
    assert stored.name == answer.json()["id"]
    answer = server.http.get(f"/v1/files/{answer.json()['id']}/content")
    assert "set-cookie" not in answer.headers


WRONG = {
    "no file": (form(PURPOSE), "file"),
    "no purpose": (form(FILE), "purpose"),
    "purpose unknown": (form((PURPOSE[0], b"world domination"), FILE), "purpose"),
    "purpose twice": (form(PURPOSE, PURPOSE, FILE), "purpose"),
    "purpose too long": (form((PURPOSE[0], b"x" * 5_000), FILE), "purpose"),
    "file twice": (form(FILE, FILE, PURPOSE), "file"),
    "file without a name": (form((b'form-data; name="file"', b"x"), PURPOSE), "file"),
    "unknown field": (form((b'form-data; name="porpoise"', b"x"), FILE), "porpoise"),
    "no field name": (form((b"form-data", b"x")), None),
    "not form-data": (form((b'attachment; name="file"; filename="x"', b"x")), None),
    "empty": (b"", None),
    "nothing but the end": (b"--xXx--\r\n", "file"),
    "cut short": (form(PURPOSE, FILE)[:-9], None),
    "cut in the headers": (form(PURPOSE, FILE)[:20], None),
    "another boundary": (form(PURPOSE, FILE).replace(b"xXx", b"yYy"), None),
    "no form at all": (b'{"file": 1}', None),
    "a thousand headers": (b"--xXx\r\n" + b"A: b\r\n" * 1_000, None),
    "a huge header": (b"--xXx\r\nA: " + b"b" * 100_000, None),
    "a colonless header": (b"--xXx\r\nnonsense\r\n\r\nx", None),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_form_is_refused_and_leaves_nothing(server: Server, kind: str) -> None:
    body, param = WRONG[kind]
    answer = server.http.post("/v1/files", content=body, headers=FORM)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert server.stored == []


@pytest.mark.parametrize(
    "kind",
    ["application/json", "multipart/form-data", "multipart/mixed; boundary=x", "", "multipart/form-data; boundary="],
)
def test_anything_but_a_form_is_an_unsupported_media_type(server: Server, kind: str) -> None:
    answer = server.http.post("/v1/files", content=form(PURPOSE, FILE), headers={"content-type": kind})
    assert answer.status_code == 415


def test_a_boundary_of_any_length_breaks_nothing(server: Server) -> None:
    kind = "multipart/form-data; boundary=" + "b" * 8_000
    answer = server.http.post("/v1/files", content=form(PURPOSE, FILE), headers={"content-type": kind})
    assert answer.status_code == 400


def test_openais_limits_hold_when_asked_for(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "OPENAI_BATCH_BYTES", 1_000)
    monkeypatch.setattr(uploads, "OPENAI_BYTES", 2_000)
    server = serve(openai_limits=True)
    exact, over = (FILE[0], b"x" * 1_000), (FILE[0], b"x" * 1_001)
    assert post(server, PURPOSE, exact).status_code == 200
    for parts in ((PURPOSE, over), (over, PURPOSE)):
        answer = post(server, *parts)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "file_too_large")
    assert post(server, (PURPOSE[0], b"vision"), over).status_code == 200
    assert len(server.stored) == 2


def test_too_much_is_refused_before_it_was_all_read(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "OPENAI_BYTES", 1 << 20)
    server = serve(openai_limits=True)
    with connect(server) as client:
        client.sendall(b"Transfer-Encoding: chunked\r\n\r\n" + chunk(form(FILE)[:-9]))
        for _ in range(40):
            client.sendall(chunk(b"x" * (1 << 16)))
        assert b" 413 " in client.recv(1_000)
    assert server.stored == []


def test_a_length_over_the_limit_is_refused_at_once(serve: Serve) -> None:
    server = serve(openai_limits=True)
    with connect(server) as client:
        client.sendall(b"Content-Length: 999999999999\r\n\r\n")
        assert b" 413 " in client.recv(1_000)
    assert server.stored == []


def test_without_limits_size_is_no_matter(server: Server) -> None:
    data = b'{"custom_id": "1"}\n' * 500_000
    answer = post(server, PURPOSE, (FILE[0], data))
    assert answer.json()["bytes"] == len(data)
    assert content(server, answer) == data


def test_a_stalled_upload_dies(serve: Serve) -> None:
    server = serve(stall_seconds=0.2)
    with connect(server) as client:
        client.sendall(b"Content-Length: 1000\r\n\r\n--xXx\r\n")
        client.settimeout(10)
        answer = b"".join(iter(lambda: client.recv(1_000), b""))
    assert b" 408 " in answer and b"upload_stalled" in answer and b"connection: close" in answer.lower()
    polling.until(lambda: server.stored == [])


def test_a_slow_upload_lives(serve: Serve) -> None:
    server = serve(stall_seconds=2.0)
    body = form(PURPOSE, FILE)
    with connect(server) as client:
        client.sendall(b"Content-Length: %d\r\n\r\n" % len(body))
        for at in range(0, len(body), 10):
            client.sendall(body[at : at + 10])
            time.sleep(0.15)
        assert b" 200 " in client.recv(1_000)


def test_a_client_that_leaves_leaves_nothing(server: Server) -> None:
    with connect(server) as client:
        client.sendall(b"Content-Length: 99999999\r\n\r\n" + form(PURPOSE, FILE)[:-9] + b"x" * (3 << 20))
        polling.until(lambda: server.stored)
    polling.until(lambda: server.stored == [])
    assert server.http.get("/v1/files").json()["data"] == []


def test_a_length_that_is_a_lie_leaves_nothing(server: Server) -> None:
    body = form(PURPOSE, FILE)
    with connect(server) as client:
        client.sendall(b"Content-Length: %d\r\n\r\n" % (len(body) + 100) + body)
        client.shutdown(socket.SHUT_WR)
        client.settimeout(10)
        client.recv(1_000)
    polling.until(lambda: server.stored == [])


def test_uploads_at_once_do_not_mix(server: Server) -> None:
    answers: dict[int, httpx.Response] = {}

    def upload(number: int) -> None:
        answers[number] = httpx.post(
            f"{server.url}/v1/files", content=form(PURPOSE, (FILE[0], b"%d" % number * 500_000)), headers=FORM
        )

    threads = [threading.Thread(target=upload, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, answer in answers.items():
        assert content(server, answer) == b"%d" % number * 500_000


def connect(server: Server) -> socket.socket:
    """A connection on which the request line and the first headers of an upload are sent."""
    address = urlsplit(server.url)
    assert address.hostname is not None
    client = socket.create_connection((address.hostname, address.port), timeout=10)
    client.sendall(
        b"POST /v1/files HTTP/1.1\r\nHost: %b\r\nContent-Type: %b\r\n"
        % (address.netloc.encode(), FORM["content-type"].encode())
    )
    return client


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
