"""kill -9 of the server in the middle of an upload: nobody ever sees a part of it, and none stays on the disk."""

import socket
from pathlib import Path

from tests.faults.rig import Mill, requests
from tests.polling import until

PART = 4 << 20


def test_nothing_is_left_of_a_torn_upload(mortal: Mill) -> None:
    whole = mortal.submit(requests("whole", 1))
    mortal.await_rest(whole)
    before = _listed(mortal)
    with socket.create_connection((mortal.client.base_url.host, mortal.client.base_url.port or 80)) as torn:
        torn.sendall(_beginning_of_an_upload())
        until(lambda: sum(path.stat().st_size for path in _stored(mortal) if path.parent.name == "tmp") >= PART // 2)
        mortal.kill_server()
        assert len(_stored(mortal)) == 2
    mortal.start()
    assert _listed(mortal) == before
    until(lambda: len(_stored(mortal)) == 1)
    assert mortal.submit(requests("after", 1))


def _beginning_of_an_upload() -> bytes:
    """Its headers, its purpose, and a quarter of the bytes that they promise."""
    parts = (
        b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="torn.jsonl"\r\n\r\n'
    )
    head = f"POST /v1/files HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {4 * PART}\r\n"
    return head.encode() + b"Content-Type: multipart/form-data; boundary=x\r\n\r\n" + parts + b"a" * PART


def _listed(mill: Mill) -> list[str]:
    return [file["id"] for file in mill.client.get("/v1/files").json()["data"]]


def _stored(mill: Mill) -> list[Path]:
    return [path for path in (mill.home / "files").rglob("file-*") if path.is_file()]
