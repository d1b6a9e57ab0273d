import datetime
import re
from pathlib import Path
from typing import Any

import pytest

from tests import grist
from tests.grist import Worker
from worker.database import Database
from worker.states import Outcome

DOCUMENT = Path(__file__).parents[2] / "docs" / "sql.md"
EXAMPLES = re.findall(r"```sql\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
BEGAN = 1_700_000_000_000_000_000


@pytest.fixture
def worker(database: Database) -> Worker:
    return Worker(database)


def rows(database: Database, statement: str) -> list[Any]:
    with database.read() as session:
        return list(session.connection().exec_driver_sql(statement).all())


def line(database: Database, number: int) -> Any:
    return rows(database, f"SELECT * FROM results WHERE line = {number}")[0]


def finished(worker: Worker, *ends: tuple[Outcome, dict[str, Any]], lines: int = 1) -> int:
    """A batch whose first line had these calls."""
    number = grist.add(worker.database, lines)
    claim = worker.begin(grist.slices_of(worker.database, number)[0].id)
    for place, (outcome, facts) in enumerate(ends):
        worker.record(grist.end(claim, claim.jobs[0], outcome, attempt=BEGAN + place, **facts))
    return number


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_documented_queries_run(database: Database, worker: Worker, example: str) -> None:
    finished(worker, (Outcome.SUCCEEDED, {"ending": "truncated"}))
    finished(worker, (Outcome.FAILED, {}))
    assert rows(database, example)


def test_every_column_is_documented(database: Database) -> None:
    with database.read() as session:
        for view in ("results", "usage"):
            columns = session.connection().exec_driver_sql(f"SELECT * FROM {view}").keys()
            assert [name for name in columns if f"`{name}`" not in DOCUMENT.read_text()] == []


def test_a_line_sums_its_calls_and_names_the_one_that_answered(database: Database, worker: Worker) -> None:
    failed = (Outcome.RETRY, {"cost": None, "error_code": "timeout"})
    good = (Outcome.SUCCEEDED, {"model": "flour-2", "ending": "complete", "status_code": 200, "cost_source": "config"})
    finished(worker, failed, good)
    row = line(database, 1)
    assert (row.model, row.served_model, row.provider, row.deployment) == (grist.ROUTE, "flour-2", "mill", grist.ROUTE)
    assert (row.state, row.ending, row.status_code, row.error_code) == ("succeeded", "complete", 200, None)
    assert (row.input_tokens, row.cached_tokens, row.output_tokens, row.reasoning_tokens) == (11, 3, 7, 2)
    assert (row.attempts, row.unknown_cost, row.cost_usd, row.cost_source) == (2, 1, 25e-12, "config")
    assert (row.first_call_at, row.service_seconds, row.generation) == (BEGAN / 1e9, 0.5, 1)


def test_what_nobody_knows_is_null_and_what_was_free_is_zero(database: Database, worker: Worker) -> None:
    finished(worker, (Outcome.FAILED, {"cost": None}), lines=2)
    unknown, uncalled = line(database, 1), line(database, 2)
    assert (unknown.cost_usd, unknown.unknown_cost, unknown.input_tokens) == (None, 1, None)
    assert (uncalled.input_tokens, uncalled.reasoning_tokens) == (0, 0)
    assert (uncalled.state, uncalled.cost_usd, uncalled.attempts, uncalled.served_model) == ("pending", 0, 0, None)
    assert uncalled.first_call_at is None and uncalled.service_seconds is None
    [used] = rows(database, "SELECT * FROM usage")
    assert (used.cost_usd, used.unknown_cost, used.output_tokens) == (None, 1, None)


def test_usage_sums_by_day_and_model_without_the_account(database: Database, worker: Worker) -> None:
    finished(worker, (Outcome.RATE_LIMITED, {"cost": 0}), (Outcome.SUCCEEDED, {}))
    finished(worker, (Outcome.SUCCEEDED, {}))
    database.write(
        lambda session: session.connection().exec_driver_sql("UPDATE attempt SET deployment = 'mill/flour@second'")
    )
    used = rows(database, "SELECT * FROM usage ORDER BY attempts")
    day = datetime.datetime.fromtimestamp(BEGAN / 1e9, datetime.UTC).date().isoformat()
    assert [(row.day, row.owner, row.model, row.provider) for row in used] == [(day, "local", "mill/flour", "mill")] * 2
    assert [(row.attempts, row.succeeded, row.input_tokens) for row in used] == [(1, 1, 11), (2, 1, 11)]
    assert sum(row.cost_usd for row in used) == 50e-12


def test_a_batch_is_read_by_its_keys(database: Database, worker: Worker) -> None:
    """Also in a batch of 200,000 lines: no table that grows with lines is read whole."""
    finished(worker, (Outcome.SUCCEEDED, {}))
    for view in ("results", "usage"):
        plan = grist.plan(database, f"SELECT * FROM {view} WHERE batch = 'batch_x'")
        whole = [name for name in ("j", "a", "s") if re.search(rf"SCAN {name}\b|Seq Scan on \w+ {name}\b", plan)]
        assert whole == [], plan
        if view == "results" and database.sqlite:
            assert "TEMP B-TREE" not in plan
