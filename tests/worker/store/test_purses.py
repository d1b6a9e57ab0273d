import datetime
from typing import Any

import pytest
import sqlalchemy

from tests import grist, rows, truth
from tests.grist import Worker
from worker.database import Database
from worker.states import Outcome
from worker.store import api_keys, batches, deletion, dispatching, progress, purses, reaping, recording
from worker.store.batches import BudgetSpent
from worker.store.purses import Purse
from worker.tables import SPEND, TALLY

DAY = 86_400.0


def key(database: Database, **rules: Any) -> str:
    return database.write(lambda session: api_keys.create(session, "ann", "local", **rules))[0].id


def purse(database: Database, key: str) -> Purse:
    with database.read() as session:
        return purses.of(session, key)


def add(database: Database, *sizes: int, **columns: Any) -> tuple[int, list[int]]:
    number = grist.add(database, *sizes, **columns)
    return number, [row.id for row in grist.slices_of(database, number)]


def running(database: Database) -> list[int]:
    with database.read() as session:
        return [row.number for row in dispatching.running(session)]


def blocks(database: Database, number: int) -> list[progress.Block]:
    batch = grist.batch(database, number)
    with database.read() as session:
        return progress.of(session, [batch], scopes_of=lambda route: (), errors=0)[number].blocks


def exhaust(database: Database, worker: Worker, key: str, cost: int = 100) -> int:
    """A batch that spends so much, and then finds that the next call does not fit."""
    number, [slice] = add(database, 2, api_key=key)
    claim = worker.claim(slice)
    assert worker.start(claim, claim.jobs[0], cost=cost).count == 1
    worker.record(grist.end(claim, claim.jobs[0], reserved=cost, cost=cost))
    refused = worker.start(claim, claim.jobs[1], cost=cost)
    assert (refused.count, refused.closed) == (0, True)
    worker.release(claim)
    return number


def test_as_many_calls_begin_as_the_budget_has_room_for(database: Database, worker: Worker) -> None:
    ann = key(database, budget_day=100)
    _, [slice] = add(database, 5, api_key=ann)
    claim = worker.claim(slice)
    granted = worker.start(claim, cost=40)
    assert (granted.count, granted.closed) == (2, False)
    assert purse(database, ann).left() == 20
    worker.record(grist.end(claim, claim.jobs[0], reserved=40, cost=10))
    assert purse(database, ann).left() == 50
    assert worker.start(claim, *claim.jobs[2:], cost=40).count == 1
    truth.check(database)


def test_a_cost_counts_in_its_day_and_month(database: Database, worker: Worker) -> None:
    ann = key(database)
    exhaust_free, [slice] = add(database, 1, api_key=ann)
    claim = worker.begin(slice, cost=5)
    worker.record(grist.end(claim, claim.jobs[0], reserved=5, cost=7))
    today = f"{datetime.datetime.fromtimestamp(database.now(), datetime.UTC):%Y-%m-%d}"
    found = {row.period: row.cost for row in grist.all_of(database, SPEND)}
    assert found in ({today: 7, today[:7]: 7}, dict.fromkeys(found, 7))
    assert grist.batch(database, exhaust_free).cost == 7 and purse(database, ann).left() is None
    truth.check(database)


def test_a_batch_over_budget_waits_until_the_period_ends_and_says_so(database: Database, worker: Worker) -> None:
    ann = key(database, budget_day=150, budget_month=10_000)
    number = exhaust(database, worker, ann)
    assert number not in running(database)
    [block] = blocks(database, number)
    assert (block.reason, block.scope) == ("budget", "ann") and "00:00 UTC" in str(block.detail)
    until = grist.batch(database, number).over_budget_until
    assert until is not None and until % DAY == 0 and 0 < until - database.now() <= DAY
    assert [row.id for row in grist.slices_of(database, number) if row.state == "ready"]
    truth.check(database)


def test_it_waits_for_the_longest_of_the_exhausted_periods(database: Database, worker: Worker) -> None:
    number = exhaust(database, worker, key(database, budget_day=150, budget_month=150))
    until = grist.batch(database, number).over_budget_until
    assert until is not None and datetime.datetime.fromtimestamp(until, datetime.UTC).day == 1


def test_it_goes_on_when_the_period_has_turned(database: Database, worker: Worker) -> None:
    number = exhaust(database, worker, key(database, budget_day=150))
    grist.change(database, number, over_budget_until=1.0)
    yesterday = sqlalchemy.update(SPEND).where(sqlalchemy.func.length(SPEND.c.period) == 10).values(period="2020-01-01")
    database.write(lambda session: session.connection().execute(yesterday))
    assert number in running(database) and blocks(database, number) == []
    worker.begin(grist.slices_of(database, number)[0].id, cost=100)
    assert grist.batch(database, number).over_budget_until is None


def test_a_higher_budget_wakes_at_once(database: Database, worker: Worker) -> None:
    ann = key(database, budget_day=150)
    number = exhaust(database, worker, ann)
    database.write(lambda session: api_keys.change(session, ann, budget_day=200))
    database.write(lambda session: purses.wake(session, ann))
    assert number in running(database)
    worker.begin(grist.slices_of(database, number)[0].id, cost=100)
    truth.check(database)


def test_while_other_batches_calls_may_leave_room_it_rests_for_a_moment(database: Database, worker: Worker) -> None:
    ann = key(database, budget_day=100)
    (_, [first]), (number, [second]) = add(database, 1, api_key=ann), add(database, 1, api_key=ann)
    worker.begin(first, cost=90)
    claim = worker.claim(second)
    granted = worker.start(claim, cost=20)
    assert (granted.count, granted.closed) == (0, True)
    until = grist.batch(database, number).over_budget_until
    assert until is not None and until - database.now() <= recording.OTHERS_SECONDS


def test_keys_do_not_share_budgets(database: Database, worker: Worker) -> None:
    exhaust(database, worker, key(database, budget_day=100))
    bob = database.write(lambda session: api_keys.create(session, "bob", "local", budget_day=100))[0].id
    _, [slice] = add(database, 1, api_key=bob)
    worker.begin(slice, cost=100)
    worker.begin(add(database, 1)[1][0], cost=100)
    truth.check(database)


@pytest.mark.parametrize("crashed", [None, False, True])
def test_what_was_reserved_comes_back(database: Database, worker: Worker, crashed: bool | None) -> None:
    ann = key(database, budget_day=100)
    _, [slice] = add(database, 2, api_key=ann)
    claim = worker.begin(slice, cost=50)
    assert purse(database, ann).reserved == 100
    if crashed is None:
        worker.release(claim)
    else:
        grist.late(database, slice)
        database.write(lambda session: reaping.take(session, slice, claim.epoch, crashed=crashed))
    assert purse(database, ann).reserved == 0
    worker.record(grist.end(claim, claim.jobs[0], reserved=50, cost=50))
    assert (purse(database, ann).reserved, purse(database, ann).left()) == (0, 50)
    truth.check(database)


def test_a_call_that_outlives_its_deleted_batch_is_spent(database: Database, worker: Worker) -> None:
    ann = key(database, budget_day=100)
    number, [slice] = add(database, 2, api_key=ann)
    claim = worker.begin(slice, cost=20)
    grist.change(database, number, status="cancelled", cancelled_at=1.0, open=0)
    id = grist.batch(database, number).id
    database.write(lambda session: deletion.delete(session, "local", id))
    end = grist.end(claim, claim.jobs[0], reserved=20, cost=30)
    for again in (False, True):
        worker.record(end, again=again)
    worker.release(claim)
    assert (purse(database, ann).reserved, purse(database, ann).left()) == (0, 70)


def test_an_answer_that_is_stored_twice_is_spent_once(database: Database, worker: Worker) -> None:
    ann = key(database, budget_day=100)
    _, [slice] = add(database, 1, api_key=ann)
    claim = worker.begin(slice, cost=50)
    end = grist.end(claim, claim.jobs[0], Outcome.RETRY, reserved=50, cost=30)
    for _ in range(2):
        worker.record(end, again=True)
    assert purse(database, ann).left() == 70
    truth.check(database)


def test_a_model_of_unknown_price_pauses(database: Database, worker: Worker) -> None:
    number, [slice] = add(database, 1, api_key=key(database, budget_month=100), prices=(None, None))
    assert worker.start(worker.claim(slice)).closed
    assert grist.tally(database, number).alike_code == recording.UNKNOWN_COST
    number, [slice] = add(database, 1, prices=(None, None))
    worker.begin(slice)


def test_a_key_without_a_budget_only_counts(database: Database, worker: Worker) -> None:
    ann = key(database)
    number, [slice] = add(database, 1, api_key=ann, prices=(None, None))
    worker.begin(slice, cost=10**15)
    assert purse(database, ann).left() is None and grist.batch(database, number).over_budget_until is None


def create(database: Database, key: str, **changes: Any) -> Any:
    file = database.write(rows.add_file)
    new = rows.new_batch(file)
    values = {name: getattr(new, name) for name in new.__slots__} | {"api_key": key, **changes}
    return database.write(lambda session: batches.create(session, type(new)(**values)))[0]


def test_a_key_that_refuses_takes_no_batch_when_its_budget_is_spent(database: Database, worker: Worker) -> None:
    ann = key(database, budget_day=150, over_budget="refuse")
    create(database, ann)
    number = exhaust(database, worker, ann)
    with pytest.raises(BudgetSpent, match="'ann' is spent until"):
        create(database, ann)
    database.write(lambda session: api_keys.change(session, ann, over_budget="pause"))
    create(database, ann)
    assert blocks(database, number)


def test_what_does_not_fit_by_its_estimate_is_said_with_both_sums(database: Database) -> None:
    trillion = 10**12
    ann = key(database, budget_day=trillion, over_budget="refuse")
    number, _ = add(database, 1, api_key=ann)

    def price(input_price: int | None) -> str | None:
        database.write(lambda session: session.connection().execute(TALLY.update().values(input_price=input_price)))
        with database.read() as session:
            return purses.shortage(session, grist.batch(database, number))

    assert price(10) is None and price(None) is None
    message = str(price(trillion))
    assert "$10.0000" in message and "'ann' has $1.0000 left until" in message
    grist.change(database, number, max_cost=trillion)
    assert price(trillion) is None
    database.write(lambda session: api_keys.change(session, ann, over_budget="pause"))
    grist.change(database, number, max_cost=None)
    assert price(trillion) is None


@pytest.mark.parametrize(("said", "stands"), [(None, 50), (20, 20), (80, 50)])
def test_no_batch_has_a_higher_cap_than_its_key_allows(database: Database, said: int | None, stands: int) -> None:
    ann = key(database, budget_batch=50)
    batch = create(database, ann, max_cost=said)
    assert batch.max_cost == stands
    resumed = database.write(lambda session: batches.resume(session, "local", batch.id, max_cost=None))
    assert resumed is not None and resumed.max_cost == 50
    assert create(database, ann, api_key=None, max_cost=said).max_cost == said


def test_periods_are_utc_days_and_months() -> None:
    def of(moment: str) -> list[tuple[str, float]]:
        at = datetime.datetime.fromisoformat(moment).timestamp()
        return [purses._day(at), purses._month(at)]

    assert [name for name, _ in of("2026-12-31T23:59:59+00:00")] == ["2026-12-31", "2026-12"]
    assert [name for name, _ in of("2026-12-31T23:59:59-01:00")] == ["2027-01-01", "2027-01"]
    year = datetime.datetime(2027, 1, 1, tzinfo=datetime.UTC).timestamp()
    assert [end for _, end in of("2026-12-31T23:59:59+00:00")] == [year, year]
