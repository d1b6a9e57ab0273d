"""A working directory whose modules have our names, and those of what we use: none of them is ever imported."""

import json
import os
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.polling import until

GRISTMILL = Path(sysconfig.get_path("scripts")) / "gristmill"
TRAP = "raise SystemExit(f'trapped: {__file__} was imported')\n"


@pytest.fixture
def trapped(tmp_path: Path) -> Path:
    """A folder as an evaluation project may have it."""
    folder = tmp_path / "project"
    for package in ("api", "worker", "providers"):
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").write_text(TRAP)
    for module in ("celery", "redis"):
        (folder / f"{module}.py").write_text(TRAP)
    return folder


@pytest.fixture
def environment(tmp_path: Path, environment: None) -> dict[str, str]:
    return {**os.environ, "GRISTMILL_HOME": str(tmp_path / "home")}


@pytest.fixture
def served(trapped: Path, environment: dict[str, str]) -> Iterator[str]:
    """The URL of ``gristmill serve``."""
    command = [str(GRISTMILL), "serve", "--port", "0"]
    state = Path(environment["GRISTMILL_HOME"]) / "server.json"
    with subprocess.Popen(command, cwd=trapped, env=environment, stderr=subprocess.DEVNULL) as server:
        try:
            until(lambda: state.exists() or server.poll() is not None, 60)
            yield json.loads(state.read_bytes())["url"]
        finally:
            server.send_signal(signal.SIGTERM)
            assert server.wait(30) == 0


def test_the_traps_work(trapped: Path) -> None:
    for module in ("api", "worker", "providers", "celery", "redis"):
        ended = subprocess.run([sys.executable, "-c", f"import {module}"], cwd=trapped, capture_output=True, text=True)
        assert "trapped" in ended.stderr


def test_run(trapped: Path, environment: dict[str, str]) -> None:
    lines = [_request(number) for number in range(1, 21)]
    (trapped / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    ended = subprocess.run(
        [str(GRISTMILL), "run", "in.jsonl", "-o", "out.jsonl"],
        cwd=trapped, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=90,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    answers = [json.loads(line) for line in (trapped / "out.jsonl").read_text().splitlines()]
    assert [answer["custom_id"] for answer in answers] == [line["custom_id"] for line in lines]


def test_serve(served: str) -> None:
    until(lambda: httpx.get(f"{served}/readyz", trust_env=False).status_code == 200)


def test_no_child_of_the_server_stands_in_the_trap(served: str, trapped: Path) -> None:
    """Whatever it starts runs in its home, with a safe import path."""
    until(lambda: httpx.get(f"{served}/readyz", trust_env=False).status_code == 200)
    server = json.loads((trapped.parent / "home" / "server.json").read_bytes())["pid"]
    children = psutil.Process(server).children(recursive=True)
    pythons = [child for child in children if "-m" in child.cmdline()]
    assert len(pythons) >= 2
    assert all("-P" in python.cmdline() for python in pythons)
    assert not any(Path(child.cwd()).is_relative_to(trapped) for child in children)


def _request(number: int) -> dict[str, object]:
    body = {"model": "simulator/tiny", "messages": [{"role": "user", "content": f"nonce:{number}"}]}
    return {"custom_id": f"r-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
