"""A budget under 200 calls in flight: by how much is it exceeded, and what becomes of the lines that it stops."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from providers.simulator.process import Process
from tests.faults.rig import Mill, requests
from worker import migrations
from worker.database import Database
from worker.embedded import home
from worker.intake import estimate
from worker.store import api_keys, purses

PICO = 10**12
IN_FLIGHT = 200
TOKENS = 1_000
"""Of each answer: 0.01 USD."""
WRONG = IN_FLIGHT * 10e-6 * (TOKENS - estimate.OUTPUT_GUESS)
"""What 200 calls cost more than guessed, if a line says nothing of its length."""


@pytest.fixture
def slow() -> Iterator[Process]:
    with Process(tokens=TOKENS, latency=0.5) as simulator:
        yield simulator


@pytest.mark.parametrize(("body", "most_over"), [({"max_tokens": TOKENS}, 0.0), ({}, WRONG)])
def test_a_budget_of_one_dollar_is_exceeded_by_wrong_estimates_only(
    slow: Process, tmp_path: Path, body: dict[str, Any], most_over: float
) -> None:
    place = home.prepare(tmp_path / "home")
    database = Database(f"sqlite:///{place.path}/gristmill.db")
    migrations.upgrade(database)
    key, secret = database.write(lambda session: api_keys.create(session, "ann", "ann", budget_month=PICO))
    with Mill(place.path, slow.base_url, GRISTMILL_MAX_IN_FLIGHT=str(IN_FLIGHT)) as mill:
        mill.client.headers["authorization"] = f"Bearer {secret}"
        id = mill.submit(requests("line", 400, model="simulator/large", **body))
        mill.await_block(id, "budget")
        stood = mill.batch(id)
        assert 0.95 <= stood["gristmill"]["cost_usd"] <= 1.0 + most_over
        assert stood["request_counts"]["failed"] == 0
        database.write(lambda session: api_keys.change(session, key.id, budget_month=100 * PICO))
        database.write(lambda session: purses.wake(session, key.id))
        mill.await_rest(id)
        assert mill.batch(id)["request_counts"] == {"total": 400, "completed": 400, "failed": 0}
        assert mill.rows("SELECT reserved FROM api_key") == [(0,)]
    database.close()
