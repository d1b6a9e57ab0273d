from typing import Any

import pytest
import sqlalchemy

from tests import grist, truth
from tests.grist import LEASE, Worker
from worker.database import Database
from worker.states import Outcome, SliceState
from worker.store import slices
from worker.tables import SLICE


def one(database: Database, size: int = 3, **columns: Any) -> int:
    [row] = grist.slices_of(database, grist.add(database, size, **columns))
    return int(row.id)


def lease_left(database: Database, slice: int) -> float:
    return float(grist.slice_of(database, slice).lease_until) - database.now()


def test_a_message_is_good_for_one_claim(database: Database, worker: Worker, other: Worker) -> None:
    slice = one(database)
    epoch = database.write(lambda session: slices.publish(session, slice, "mill"))
    assert epoch == 0
    claim = database.write(lambda session: slices.claim(session, slice, 0, worker.name, LEASE))
    assert claim is not None and claim.epoch == 1
    assert database.write(lambda session: slices.claim(session, slice, 0, worker.name, LEASE)) is None
    assert database.write(lambda session: slices.claim(session, slice, 0, other.name, LEASE)) is None
    worker.release(claim)
    assert database.write(lambda session: slices.claim(session, slice, 0, other.name, LEASE)) is None
    assert other.claim(slice).epoch == 2
    truth.check(database)


def test_only_a_ready_slice_is_published(database: Database, worker: Worker) -> None:
    slice = one(database)
    assert database.write(lambda session: slices.publish(session, slice, "mill")) == 0
    assert database.write(lambda session: slices.publish(session, slice, "mill")) is None
    worker.claim(slice)
    assert database.write(lambda session: slices.publish(session, slice, "mill")) is None
    assert grist.slice_of(database, slice).provider == "mill"


def test_a_claim_has_all_that_a_call_needs(database: Database, worker: Worker) -> None:
    slice = one(database, 2, prices=(3, None))
    claim = worker.claim(slice)
    first, second = claim.jobs
    assert (claim.input_price, claim.output_price, claim.route) == (3, None, grist.ROUTE)
    assert (first.custom_id, first.offset, first.length, first.model_offset, first.wait) == ("line-1", 100, 90, 10, 0.0)
    assert second.id == first.id + 1
    assert 0 < lease_left(database, slice) <= LEASE


def test_finished_lines_are_not_claimed_again(database: Database, worker: Worker) -> None:
    slice = one(database)
    claim = worker.begin(slice)
    worker.record(grist.end(claim, claim.jobs[0]), grist.end(claim, claim.jobs[2], Outcome.FAILED))
    assert worker.release(claim)
    assert grist.slice_of(database, slice).first_line == 2
    assert [job.id for job in worker.claim(slice).jobs] == [claim.jobs[1].id]
    truth.check(database)


def test_lines_beyond_the_limit_stay(database: Database, worker: Worker) -> None:
    slice = one(database, 5, line_limit=2)
    claim = worker.begin(slice)
    assert [job.custom_id for job in claim.jobs] == ["line-1", "line-2"]
    worker.record(*(grist.end(claim, job) for job in claim.jobs))
    assert worker.release(claim)
    row = grist.slice_of(database, slice)
    assert (row.state, row.open, row.first_line) == (SliceState.READY, 3, 3)
    assert worker.claim(slice).jobs == ()
    truth.check(database)


def test_a_release_keeps_waits_and_spent_attempts(database: Database, worker: Worker) -> None:
    slice = one(database)
    claim = worker.begin(slice, cost=9)
    assert worker.release(claim, wait=30.0, waits=[(claim.jobs[0].id, 40.0, 2), (claim.jobs[1].id, 0.0, 1)])
    row = grist.slice_of(database, slice)
    assert 25 < row.not_before - database.now() <= 30
    assert (row.state, row.started, row.reserved, row.lease_owner) == (SliceState.READY, "", 0, None)
    first, second, third = worker.claim(slice).jobs
    assert 35 < first.wait <= 40 and (second.wait, third.wait) == (0.0, 0.0)
    assert (first.attempts, second.attempts, third.attempts) == (2, 1, 0)
    assert grist.slice_of(database, slice).not_before is None
    truth.check(database)


def test_a_release_without_the_lease_changes_nothing(database: Database, worker: Worker, other: Worker) -> None:
    slice = one(database)
    claim = worker.claim(slice)
    assert worker.release(claim)
    second = other.begin(slice, cost=4)
    before = grist.slice_of(database, slice)
    assert not worker.release(claim, wait=9.0, waits=[(claim.jobs[0].id, 9.0, 3)])
    assert grist.slice_of(database, slice) == before
    assert grist.job(database, second.batch, 1).attempts == 0


def test_waits_do_not_touch_a_line_that_has_its_result(database: Database, worker: Worker, other: Worker) -> None:
    slice = one(database)
    claim = worker.begin(slice)
    worker.record(grist.end(claim, claim.jobs[0]))
    worker.release(claim, waits=[(claim.jobs[0].id, 9.0, 3)])
    assert grist.job(database, claim.batch, 1).not_before is None


def test_a_heartbeat_renews_what_its_process_runs_and_nothing_else(
    database: Database, worker: Worker, other: Worker
) -> None:
    """A slice whose claim was committed although the database seemed away is run by nobody."""
    first, second, unrun, others = all_slices = [one(database) for _ in range(4)]
    mine = [worker.claim(first), worker.claim(second)]
    worker.claim(unrun)
    other.claim(others)
    for slice in all_slices:
        grist.late(database, slice)
    kept = database.write(lambda session: slices.renew(session, worker.name, LEASE, {first, second, others}))
    assert kept == {(claim.slice, claim.epoch) for claim in mine}
    assert lease_left(database, first) > 0 and lease_left(database, second) > 0
    assert lease_left(database, unrun) < 0 and lease_left(database, others) < 0


def test_a_heartbeat_without_leases_is_fine(database: Database, worker: Worker) -> None:
    slice = one(database)
    worker.release(worker.claim(slice))
    assert database.write(lambda session: slices.renew(session, worker.name, LEASE, {slice})) == set()
    assert database.write(lambda session: slices.renew(session, worker.name, LEASE, ())) == set()


def test_a_slice_without_pending_lines_is_done_when_it_is_put_back(database: Database, worker: Worker) -> None:
    slice = one(database, 1)
    claim = worker.begin(slice)
    worker.record(grist.end(claim, claim.jobs[0]))
    assert not worker.release(claim)
    assert grist.slice_of(database, slice).state == SliceState.DONE


@pytest.mark.parametrize("query", ["claim", "pending", "leased", "ready", "by batch", "renewed"])
def test_hot_statements_use_an_index(database: Database, worker: Worker, query: str) -> None:
    one(database)
    table, where = {
        "claim": ("slice", "id = 1 AND epoch = 0 AND state IN ('ready', 'published')"),
        "pending": ("job", "slice = 1 AND state = 0 ORDER BY id"),
        "leased": ("slice", "state = 'leased'"),
        "ready": ("slice", "state = 'ready' AND batch = 1 AND route = 'a' ORDER BY first_line LIMIT 16"),
        "by batch": ("slice", "batch = 1 AND state IN ('ready', 'published')"),
        "renewed": ("slice", "state = 'leased' AND lease_owner = 'a' AND id IN (1, 2)"),
    }[query]
    plan = grist.plan(database, f"SELECT * FROM {table} WHERE {where}")
    assert "INDEX" in plan.upper() or "PRIMARY KEY" in plan, plan
    assert "SCAN slice" not in plan and "SCAN job" not in plan and "Seq Scan" not in plan, plan
    assert "TEMP B-TREE" not in plan, plan
    if query == "ready":
        assert "Sort" not in plan, plan


def test_a_retried_line_is_claimed_as_often_as_it_is_released(database: Database, worker: Worker) -> None:
    slice = one(database, 1)
    for epoch in range(1, 6):
        claim = worker.begin(slice)
        assert claim.epoch == epoch
        worker.record(grist.end(claim, claim.jobs[0], Outcome.RETRY))
        assert worker.release(claim)
    with database.read() as session:
        count = session.connection().execute(sqlalchemy.select(sqlalchemy.func.count()).select_from(SLICE)).scalar_one()
    assert count == 1
    truth.check(database)
