"""The server process, whole: what it starts, where it says it is, and how it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import psutil
import pytest

from api import server
from api.server import ServerError
from tests import polling
from worker import migrations
from worker.database import Database
from worker.settings import Settings
from worker.store import api_keys

REQUEST = {
    "custom_id": "a",
    "method": "POST",
    "url": "/v1/chat/completions",
    "body": {"model": "simulator/tiny", "messages": [{"role": "user", "content": "Hello"}]},
}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.com", "localhost.example.com", ""])
def test_without_keys_only_loopback_is_listened_on(host: str) -> None:
    with pytest.raises(ServerError, match="loopback"):
        server.listen(host, 0)


def test_with_a_key_any_address_is_listened_on(home: Path) -> None:
    settings = Settings()
    assert not server._has_keys(settings)
    database = Database(settings.database)
    migrations.upgrade(database)
    assert not server._has_keys(settings)
    database.write(lambda session: api_keys.create(session, "ann", "ann"))
    database.close()
    assert server._has_keys(settings)
    with server.listen("0.0.0.0", 0, keyless=False) as listener:
        assert listener.getsockname()[0] == "0.0.0.0"


def test_a_port_that_is_taken_is_named() -> None:
    with server.listen("127.0.0.1", 0) as taken, pytest.raises(ServerError, match="another --port"):
        server.listen("127.0.0.1", taken.getsockname()[1])


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_port_0_is_a_free_one(host: str) -> None:
    with server.listen(host, 0) as listener:
        assert listener.getsockname()[1] > 0


@pytest.fixture
def started(home: Path) -> Iterator[subprocess.Popen[bytes]]:
    with open(home / "logs" / "server.log", "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "api.server", "--port", "0", "--lifeline"],
            stdin=subprocess.PIPE,
            stderr=log,
            cwd=home,
            env=Settings().child_environment(),
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        finally:
            process.kill()
        assert process.stdin is not None
        process.stdin.close()


def ready(home: Path) -> str:
    def url() -> str | None:
        try:
            found = str(json.loads((home / "server.json").read_bytes())["url"])
            return found if httpx.get(f"{found}/readyz").status_code == 200 else None
        except (OSError, ValueError, httpx.HTTPError):
            return None

    found = polling.until(url, deadline=60)
    assert found is not None
    return found


def test_one_server_a_home_runs_a_batch_and_ends_with_all_its_children(
    home: Path, started: "subprocess.Popen[bytes]"
) -> None:
    url = ready(home)
    state = json.loads((home / "server.json").read_bytes())
    assert (state["pid"], state["url"]) == (started.pid, url) and state["version"]

    second = subprocess.run(
        [sys.executable, "-P", "-m", "api.server", "--port", "0"],
        env=Settings().child_environment(),
        cwd=home,
        capture_output=True,
        check=False,
    )
    assert second.returncode == 2 and b"in use" in second.stderr

    sdk = openai.OpenAI(base_url=f"{url}/v1", api_key="any")
    file = sdk.files.create(file=("in.jsonl", json.dumps(REQUEST).encode()), purpose="batch")
    batch = sdk.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    polling.until(lambda: sdk.batches.retrieve(batch.id).status == "completed", deadline=30)
    shown = sdk.batches.retrieve(batch.id)
    assert shown.request_counts is not None and shown.request_counts.completed == 1
    assert shown.output_file_id is not None
    assert json.loads(sdk.files.content(shown.output_file_id).read())["custom_id"] == "a"
    sdk.close()

    children = psutil.Process(started.pid).children(recursive=True)
    assert children
    assert started.stdin is not None
    started.stdin.close()
    assert started.wait(30) == 0
    assert not (home / "server.json").exists()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []


def test_sigterm_ends_it_in_order_too(home: Path, started: "subprocess.Popen[bytes]") -> None:
    url = ready(home)
    os.kill(started.pid, signal.SIGTERM)
    assert started.wait(30) == 0
    assert not (home / "server.json").exists()
    with pytest.raises(OSError), socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=1):
        pass


def test_a_stop_ends_listeners_in_order(home: Path, started: "subprocess.Popen[bytes]") -> None:
    sdk = openai.OpenAI(base_url=f"{ready(home)}/v1", api_key="any")
    file = sdk.files.create(file=("in.jsonl", json.dumps(REQUEST).encode()), purpose="batch")
    held = {"gristmill": {"hold": True}}
    batch = sdk.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", extra_body=held
    )
    with httpx.stream("GET", f"{sdk.base_url}batches/{batch.id}/events", timeout=30) as answer:
        lines = answer.iter_lines()
        assert next(lines) == "event: batch"
        os.kill(started.pid, signal.SIGTERM)
        list(lines)  # an answer that is cut off raises
    sdk.close()
    assert started.wait(30) == 0


def test_what_a_person_can_mend_is_one_line_and_status_2(home: Path) -> None:
    (home / "gristmill.yaml").write_text("providrs: {}\n")
    environment = {**Settings().child_environment(), "GRISTMILL_CONFIG": str(home / "gristmill.yaml")}
    answer = subprocess.run(
        [sys.executable, "-P", "-m", "api.server", "--port", "0"],
        env=environment,
        cwd=home,
        capture_output=True,
        check=False,
    )
    assert answer.returncode == 2
    assert b"providrs" in answer.stderr and b"Traceback" not in answer.stderr
