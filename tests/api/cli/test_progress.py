import io
import sys
from pathlib import Path

import pytest

from api import schemas
from api.cli import progress
from api.cli.client import Client
from tests.api.cli.conftest import write_requests
from tests.fakes.mill import Mill


@pytest.fixture
def batch(server: tuple[str, Mill], tmp_path: Path) -> schemas.Batch:
    """A batch of 100 lines with none done."""
    url, mill = server
    mill.state["pace"] = 0
    requests = write_requests(tmp_path / "requests.jsonl", [f"line-{number}" for number in range(100)])
    with Client(url) as client:
        uploaded = client.upload(requests)
        created = client.create(
            input_file_id=uploaded.id, endpoint="/v1/chat/completions", options=schemas.BatchOptions()
        )
        return client.batch(created.id)


def at(batch: schemas.Batch, *, completed: int, tokens: int = 0) -> schemas.Batch:
    later = batch.model_copy(deep=True)
    later.request_counts.completed = completed
    later.gristmill.models[0].output_tokens = tokens
    return later


def test_rates_are_those_of_the_last_minute(batch: schemas.Batch):
    rates = progress.Rates()
    assert (rates.requests, rates.tokens) == (0, 0)
    rates.add(at(batch, completed=0), at=0.0)
    rates.add(at(batch, completed=20, tokens=1_000), at=30.0)
    assert (rates.requests, rates.tokens) == (40, 2_000)
    rates.add(at(batch, completed=20, tokens=1_000), at=95.0)
    assert rates.requests == 0


def test_a_line_tells_all_that_changes(batch: schemas.Batch):
    rates = progress.Rates()
    rates.add(at(batch, completed=0), at=0.0)
    rates.add(at(batch, completed=25, tokens=500), at=60.0)
    batch.gristmill.eta_seconds = 60
    said = progress.line(at(batch, completed=25), rates, limit=50)
    assert said == "25/50 done, 0 failed, 0 in flight, 25 requests/min, 500 tokens/min, $0.00, ETA 1:00"


def test_a_block_is_explained(batch: schemas.Batch):
    batch.gristmill.blocked_by = [schemas.Block(scope="openai/default", reason="auth", since=0, detail="401")]
    batch.gristmill.paused = True
    assert progress.blocks(batch) == ["paused", "openai/default waits (auth: 401)"]


def test_without_a_terminal_lines_come_only_with_news(batch: schemas.Batch, capsys: pytest.CaptureFixture[str]):
    with progress.display() as display:
        for completed in (0, 1, 2, 3, 100):
            display.show(at(batch, completed=completed))
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == ["0/100 done", "100/100 done"]


def test_a_terminal_shows_bar_and_line(batch: schemas.Batch, monkeypatch: pytest.MonkeyPatch):
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with progress.display() as display:
        display.show(at(batch, completed=40))
        display.note("a [note]")
    assert "━━━" in terminal.getvalue()
    assert "40/100 done" in terminal.getvalue()
    assert "a [note]" in terminal.getvalue()
