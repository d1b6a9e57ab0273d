import dataclasses
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlmodel import select

from tests import polling
from tests.api.conftest import Server
from worker.tables import Batch, Idempotency

BODY = {"endpoint": "/v1/embeddings", "completion_window": "24h"}


@pytest.fixture
def file_id(server: Server) -> str:
    return server.sdk.files.create(file=("in.jsonl", b"{}\n"), purpose="batch").id


def create(server: Server, file_id: str, key: str | None = "k", **more: Any) -> httpx.Response:
    headers = {} if key is None else {"idempotency-key": key}
    headers.update(more.pop("headers", {}))
    return server.http.post("/v1/batches", json={"input_file_id": file_id, **BODY, **more}, headers=headers)


def upload(server: Server, content: bytes, key: str = "k", name: str = "in.jsonl") -> httpx.Response:
    return server.http.post(
        "/v1/files", data={"purpose": "batch"}, files={"file": (name, content)}, headers={"idempotency-key": key}
    )


def count(server: Server, table: type[Batch | Idempotency]) -> int:
    with server.database.read() as session:
        return len(session.exec(select(table)).all())


def test_the_same_create_is_one_batch_with_one_answer(server: Server, file_id: str) -> None:
    first, second = create(server, file_id), create(server, file_id, headers={"x-stainless-retry-count": "1"})
    assert (first.status_code, second.status_code) == (200, 200)
    assert second.content == first.content
    assert "idempotent-replayed" not in first.headers and second.headers["idempotent-replayed"] == "true"
    assert create(server, file_id, "another").json()["id"] != first.json()["id"]
    polling.until(lambda: len(server.bell.rung) == 2)


def test_a_key_decides_and_not_the_guess_about_lost_answers(server: Server, file_id: str) -> None:
    first = create(server, file_id, "one").json()["id"]
    again = create(server, file_id, "two", headers={"x-stainless-retry-count": "2"}).json()["id"]
    assert again != first


def test_another_body_with_the_key_is_422_and_sdks_do_not_insist(server: Server, file_id: str) -> None:
    create(server, file_id)
    for answer in (create(server, file_id, metadata={"a": "b"}), upload(server, b"{}\n")):
        assert (answer.status_code, answer.headers["x-should-retry"]) == (422, "false")
        error = answer.json()["error"]
        assert (error["type"], error["param"]) == ("idempotency_error", "Idempotency-Key")
    assert count(server, Batch) == 1
    assert len(server.stored) == 1


def test_what_was_refused_may_be_sent_again_mended(server: Server, file_id: str) -> None:
    assert create(server, "file-none").status_code == 400
    assert create(server, file_id, completion_window="soon").status_code == 400
    assert count(server, Idempotency) == 0
    assert create(server, file_id).status_code == 200


def test_twins_make_one_batch(server: Server, file_id: str) -> None:
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: create(server, file_id), range(16)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == count(server, Batch) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "é"])
def test_a_key_must_be_short_and_visible(server: Server, file_id: str, key: str) -> None:
    answer = create(server, file_id, headers={"idempotency-key": key.encode()})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "Idempotency-Key")


def test_the_same_upload_is_one_file_whose_bytes_stand_once(server: Server) -> None:
    first, second = upload(server, b"{}\n"), upload(server, b"{}\n")
    assert (second.status_code, second.content) == (200, first.content)
    assert server.sdk.files.content(first.json()["id"]).content == b"{}\n"
    assert len(server.stored) == 1
    for other in (upload(server, b"[]\n"), upload(server, b"{}\n", name="other.jsonl")):
        assert other.status_code == 422
    assert len(server.stored) == 1
    assert upload(server, b"{}\n", "another").json()["id"] != first.json()["id"]


@pytest.mark.parametrize("key", ["k", None], ids=["by its key", "by the SDK's count of retries"])
def test_the_first_batch_is_found_when_its_answer_was_lost_with_the_server(
    server: Server, file_id: str, tmp_path: Path, key: str | None
) -> None:
    """kill -9 between the commit and the answer."""
    command = [sys.executable, "-m", "tests.fakes.mortal_server", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as mortal:
        assert mortal.stdout is not None
        url = mortal.stdout.readline().strip()
        with httpx.Client(base_url=url, verify=False) as http, pytest.raises(httpx.RemoteProtocolError):
            create(dataclasses.replace(server, http=http), file_id, key, headers={"x-stainless-retry-count": "0"})
        assert mortal.wait(10) == -signal.SIGKILL
    [first] = server.sdk.batches.list()
    answer = create(server, file_id, key, headers={"x-stainless-retry-count": "1"})
    assert (answer.status_code, answer.headers.get("idempotent-replayed")) == (200, "true" if key else None)
    assert answer.json()["id"] == first.id
    assert count(server, Batch) == 1


def test_without_a_key_nothing_is_stored(server: Server, file_id: str) -> None:
    create(server, file_id, None)
    assert count(server, Idempotency) == 0
