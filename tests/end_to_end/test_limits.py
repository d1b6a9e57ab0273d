"""Limits in a real run: edited while it goes on, shared, shown, and the end that is foretold."""

import json
import time
from pathlib import Path

import pytest

from api import schemas
from api.cli.client import Client
from tests.end_to_end.conftest import Mill
from tests.polling import until

FREE_PORT = ("serve", "--port", "0")


def configure(mill: Mill, text: str) -> None:
    (mill.folder / "gristmill.yaml").write_text(text)


def client(mill: Mill) -> Client:
    """Of the server of this home, as soon as it works."""
    state = until(lambda: mill.home.server_state.exists() and json.loads(mill.home.server_state.read_text()), 60)
    found = Client(state["url"], key=state["token"])
    until(found.is_ready, 60)
    return found


def fault(http: Client) -> str | None:
    configuration = http.limits().configuration
    return None if configuration is None else configuration.fault


def submit(mill: Mill, requests: Path) -> str:
    done = mill.finish("submit", requests.name)
    assert done.returncode == 0, done
    return done.stdout.strip()


def test_an_edit_counts_in_running_workers_and_a_bad_one_is_refused(mill: Mill):
    configure(mill, "providers: {openai: {rpm: 30}}")
    with mill.start(*FREE_PORT) as server, client(mill) as http:
        batch = submit(mill, mill.write("requests.jsonl", 200))
        until(lambda: mill.answered() > 0, 30)
        configure(mill, "providers: {openai: {rpm: thirty}}")
        until(lambda: "rpm" in (fault(http) or ""), 10)
        configure(mill, "providers: {openai: {rpm: 60000}}")
        until(lambda: http.batch(batch).status == "completed", 20)
        [scope] = http.limits().data
        assert fault(http) is None
        until(lambda: http.limits().data[0].requests == 200, 10)
        assert (scope.scope, scope.quotas[0].limit) == ("openai/default/tiny", 60_000)
        server.terminate()
        server.communicate(timeout=30)


@pytest.mark.slow
def test_the_end_is_foretold(mill: Mill):
    lines, seconds = 600, 60.0
    configure(mill, "providers: {openai: {rpm: 600}}")
    with mill.start(*FREE_PORT) as server, client(mill) as http:
        batch = submit(mill, mill.write("requests.jsonl", lines))
        foretold = []
        for part in (0.25, 0.5, 0.75):
            shown = until(lambda part=part: _reached(http.batch(batch), part * lines), 2 * seconds)  # type: ignore[misc]
            foretold.append((time.monotonic(), shown.gristmill.eta_seconds))
        until(lambda: http.batch(batch).status == "completed", seconds)
        ended = time.monotonic()
        assert [left for _, left in foretold] == [pytest.approx(ended - at, rel=0.25) for at, _ in foretold]
        server.terminate()
        server.communicate(timeout=30)


def _reached(batch: schemas.Batch, done: float) -> schemas.Batch | None:
    return batch if batch.request_counts.completed >= done else None
