"""Everything that writes, at once and on few rows: locks are taken in one order, and no sum goes astray."""

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
import sqlalchemy

from tests import grist
from tests.grist import LEASE, Worker
from worker import database as database_module
from worker.database import Database
from worker.states import AT_REST, Outcome, SliceState
from worker.store import api_keys, batches, deletion, erasing, purses, reaping, slices, usage
from worker.store.batches import AtRest
from worker.store.deletion import NotAtRest
from worker.tables import API_KEY, BATCH, SLICE, SPEND

ROUNDS = 10
ROUTES = ("mill/flour", "mill/bran")
ENDS = (Outcome.SUCCEEDED, Outcome.SUCCEEDED, Outcome.FAILED, Outcome.RETRY)


@pytest.fixture
def conflicts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Transactions that had to run again."""
    found: list[str] = []
    judge = database_module._is_conflict

    def judged(error: BaseException | None) -> bool:
        if judge(error):
            found.append(str(error))
        return judge(error)

    monkeypatch.setattr(database_module, "_is_conflict", judged)
    return found


def any_batch(database: Database, chance: random.Random) -> Any:
    return chance.choice(grist.all_of(database, BATCH))


def work(worker: Worker, key: str, chance: random.Random) -> None:
    """Two slices in one recording, as a process has them."""
    database = worker.database
    ready = list(grist.all_of(database, SLICE, SLICE.c.state == SliceState.READY))
    claims = [worker.try_claim(row.id) for row in chance.sample(ready, min(2, len(ready)))]
    taken = [claim for claim in claims if claim is not None]
    starts = [grist.start(claim, cost=9) for claim in taken]
    granted = worker.record(starts=starts).granted if starts else []
    ends = [
        grist.end(claim, job, chance.choice(ENDS), reserved=9)
        for claim, some in zip(taken, granted, strict=True)
        for job in claim.jobs[: some.count]
    ]
    database.write(lambda session: slices.renew(session, worker.name, LEASE, [claim.slice for claim in taken]))
    worker.record(*ends)
    for claim in taken:
        worker.release(claim)


def submit(worker: Worker, key: str, chance: random.Random) -> None:
    grist.add(worker.database, 2, 3, routes=ROUTES, api_key=key)


def disturb(worker: Worker, key: str, chance: random.Random) -> None:
    """What owners do, and what is done with batches that they stop."""
    database, batch = worker.database, any_batch(worker.database, chance)
    move = chance.choice((batches.pause, batches.resume, batches.resume, batches.request_cancel))
    try:
        database.write(partial(move, owner="local", id=batch.id))
    except AtRest:
        return
    grist.settle(database, batch.number)


def delete(worker: Worker, key: str, chance: random.Random) -> None:
    database, batch = worker.database, any_batch(worker.database, chance)
    try:
        database.write(partial(deletion.delete, owner="local", id=batch.id))
    except NotAtRest:
        return
    database.write(partial(erasing.erase_some, number=batch.number))


def rule(worker: Worker, key: str, chance: random.Random) -> None:
    worker.database.write(partial(api_keys.change, id_or_name=key, budget_day=chance.choice((None, 10**9))))
    worker.database.write(partial(purses.wake, key=key))


def reap(worker: Worker, key: str, chance: random.Random) -> None:
    for row in grist.all_of(worker.database, SLICE, SLICE.c.state == SliceState.LEASED)[:2]:
        worker.database.write(partial(reaping.take, slice=row.id, epoch=row.epoch, crashed=True))


ACTORS: tuple[Callable[[Worker, str, random.Random], None], ...] = (
    work, work, work, submit, submit, disturb, delete, rule, reap,
)  # fmt: skip


def test_whatever_is_done_at_once_nothing_waits_in_a_circle_and_no_sum_goes_astray(
    database: Database, conflicts: list[str]
) -> None:
    key = database.write(lambda session: api_keys.create(session, "ann", "local", budget_day=10**9))[0].id
    grist.add(database, 2, 3, routes=ROUTES, api_key=key)

    def act(place: int) -> None:
        worker, chance = Worker(database, f"elsewhere/1/{place}/1"), random.Random(place)
        for _ in range(ROUNDS):
            ACTORS[place](worker, key, chance)

    with ThreadPoolExecutor(len(ACTORS)) as pool:
        list(pool.map(act, range(len(ACTORS))))
    for row in grist.all_of(database, SLICE, SLICE.c.state == SliceState.LEASED):
        database.write(partial(reaping.take, slice=row.id, epoch=row.epoch, crashed=True))
    assert conflicts == []
    [purse] = grist.all_of(database, API_KEY)
    assert (purse.reserved, {row.reserved for row in grist.all_of(database, BATCH)}) == (0, {0})
    with database.read() as session:
        spent = session.connection().execute(sqlalchemy.select(sqlalchemy.func.sum(SPEND.c.cost))).scalar_one()
        [used] = usage.sums(session, "local", "owner")
    assert int(spent) == 2 * round(used.cost_usd * purses.PICO), "a day's and a month's"
    assert {row.status for row in grist.all_of(database, BATCH, BATCH.c.deleted_at.is_not(None))} <= set(AT_REST)
