import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from api import cli
from api.cli import follow, server_link
from tests.fakes import mill as fake


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """What a command said, and its exit status."""

    status: int
    out: str
    err: str


Gristmill = Callable[..., Finished]


@pytest.fixture
def gristmill(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, home: Path) -> Gristmill:
    """Runs a command in this process."""
    monkeypatch.setattr(server_link, "SERVER", "tests.fakes.mill")
    monkeypatch.setattr(follow, "QUICK_POLL_SECONDS", 0.01)
    monkeypatch.setattr(follow, "SETTLE_SECONDS", 0.05)

    def command(*arguments: str | Path) -> Finished:
        monkeypatch.setattr(sys, "argv", ["gristmill", *map(str, arguments)])
        capsys.readouterr()
        status = 0
        try:
            cli.main()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 0
        said = capsys.readouterr()
        return Finished(status=status, out=said.out, err=said.err)

    return command


@pytest.fixture
def server(home: Path, tmp_path: Path) -> Iterator[tuple[str, fake.Mill]]:
    """A server that runs elsewhere: its URL and its state."""
    (tmp_path / "elsewhere").mkdir()
    http, mill = fake.serve(tmp_path / "elsewhere")
    yield f"http://127.0.0.1:{http.server_address[1]}", mill
    http.shutdown()
    http.server_close()


@pytest.fixture
def requests(tmp_path: Path) -> Path:
    """Ten good lines."""
    return write_requests(tmp_path / "requests.jsonl", [f"line-{number}" for number in range(10)])


def write_requests(path: Path, ids: list[str], *, model: str = "openai/gpt-4o-mini") -> Path:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    lines = [{"custom_id": id, "method": "POST", "url": "/v1/chat/completions", "body": body} for id in ids]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def ids_in(path: Path) -> list[str]:
    return [json.loads(line)["custom_id"] for line in path.read_text().splitlines()]
