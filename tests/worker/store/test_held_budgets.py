"""A held job that may not be called is refused, or ended with an error, at once: its client waits for an answer."""

from typing import Any

import orjson
import pytest

from tests import grist, truth
from tests.grist import Worker
from tests.worker.store.test_held import create, new
from worker import output_line
from worker.database import Database
from worker.states import JobState, Outcome
from worker.store import api_keys, batches, held, purses
from worker.store.batches import TooDear, UnknownCost
from worker.tables import BATCH, Batch


def key(database: Database, **rules: Any) -> str:
    return database.write(lambda session: api_keys.create(session, "ann", "local", **rules))[0].id


def estimate() -> int:
    job = grist.new_job(1)
    return job.input_tokens + 2 * job.output_tokens


def test_what_is_dearer_than_the_key_allows_at_once_is_refused(database: Database) -> None:
    ann = key(database, budget_batch=estimate() - 1)
    with pytest.raises(TooDear, match="'ann' allows"):
        create(database, new(api_key=ann))
    assert grist.all_of(database, BATCH) == []
    bob = database.write(lambda session: api_keys.create(session, "bob", "local", budget_batch=estimate()))[0].id
    [job] = create(database, new(api_key=bob, max_cost=estimate() + 5))
    assert grist.batch(database, job.number).max_cost == estimate()


@pytest.mark.parametrize("rule", ["budget_day", "budget_month", "budget_batch"])
def test_under_a_budget_an_unknown_price_is_refused_unless_the_key_allows_it(database: Database, rule: str) -> None:
    ann = key(database, **{rule: 10**12})
    with pytest.raises(UnknownCost, match="'ann' has a budget"):
        create(database, new(api_key=ann, prices=(None, None)))
    database.write(lambda session: api_keys.change(session, ann, allow_unknown_cost=True))
    [job] = create(database, new(api_key=ann, prices=(None, None)))
    assert grist.batch(database, job.number).allow_unknown_cost


def test_a_retry_that_the_cap_forbids_ends_the_job(database: Database, worker: Worker) -> None:
    [job] = create(database, new(max_cost=100))
    claim = worker.claim(job.slice or 0)
    assert worker.start(claim, cost=60).count == 1
    worker.record(grist.end(claim, claim.jobs[0], Outcome.RETRY, reserved=60, cost=60))
    recorded = worker.record(starts=[grist.start(claim, cost=60)])
    assert (recorded.granted[0].count, recorded.granted[0].closed) == (0, True)
    row = grist.batch(database, job.number)
    assert (row.status, row.open, row.failed, row.cost, row.attempts, row.reserved) == ("completed", 0, 1, 60, 1, 0)
    assert said(database, job.job) == "max_cost"
    assert grist.job(database, job.number, 1).state == JobState.FAILED
    assert not worker.release(claim)
    truth.check(database)


def test_a_job_whose_price_was_lost_under_a_budget_ends_too(database: Database, worker: Worker) -> None:
    [job] = create(database, new(max_cost=100, prices=(None, None)))
    claim = worker.claim(job.slice or 0)
    assert worker.start(claim).closed
    assert grist.batch(database, job.number).status == "completed"
    assert said(database, job.job) == "unknown_cost"
    truth.check(database)


def test_a_batch_of_a_key_with_a_budget_may_not_allow_it_alone(database: Database, worker: Worker) -> None:
    ann = key(database, budget_day=10**12)
    number = grist.add(database, 1, api_key=ann)
    id = grist.batch(database, number).id

    def resume() -> Batch | None:
        return database.write(lambda session: batches.resume(session, "local", id, allow_unknown_cost=True))

    with pytest.raises(UnknownCost):
        resume()
    assert not grist.batch(database, number).allow_unknown_cost
    database.write(lambda session: api_keys.change(session, ann, allow_unknown_cost=True))
    found = resume()
    assert found is not None and found.allow_unknown_cost
    database.write(lambda session: api_keys.change(session, ann, allow_unknown_cost=False, budget_day=None))
    assert resume() is not None, "without a budget it is the batch's own affair"
    with database.read() as session:
        assert not purses.of(session, ann).allows_unknown


def said(database: Database, job: int) -> str | None:
    with database.read() as session:
        line = held.answers(session, [job])[job]
    assert orjson.loads(line)["error"]["message"]
    return output_line.read(line).code
