from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from providers.pricing import PriceBook
from tests import grist, truth
from tests.grist import Worker
from tests.worker.store.test_held import new as new_held
from worker import clock, config, settings
from worker.catalog import Catalog
from worker.celery_app import provider_queue
from worker.control.dispatcher import Dispatcher
from worker.database import Database
from worker.routes import Routes
from worker.states import Outcome, SliceState
from worker.store import batches, dispatching, held, processes, scopes
from worker.tables import SCOPE

CONFIG = """
providers:
  mill: {base_url: 'http://127.0.0.1:9/v1'}
  slow: {base_url: 'http://127.0.0.1:9/v1', rpm: 30}
  pair: {base_url: 'http://127.0.0.1:9/v1'}
models:
  either: [{model: mill/flour}, {model: pair/flour}]
"""
SLOW = "slow/rye"
SCOPE_OF_MILL = "mill/default/flour"
LEASE = 60.0


@dataclass
class Bell:
    """Notes who rang; ``deaf`` as if the broker were away."""

    rung: list[dict[str, Any]] = field(default_factory=list)
    deaf: bool = False

    def ring_intake(self, batch: int) -> bool:
        raise AssertionError("not here")

    def ring_slice(self, **message: Any) -> bool:
        self.rung.append(message)
        return not self.deaf

    def ring_held(self, slices: Sequence[tuple[int, int]], probe: str | None = None) -> bool:
        self.rung += [{"slice": slice, "epoch": epoch, "probe": probe, "held": True} for slice, epoch in slices]
        return not self.deaf


class Control:
    """A dispatcher with its bell."""

    def __init__(self, database: Database) -> None:
        parsed, loaded = config.parse(CONFIG), settings.load()
        self.database = database
        self.bell = Bell()
        self.catalog = Catalog(parsed, Routes(parsed, loaded), PriceBook({}), loaded)
        self.dispatcher = Dispatcher(database, self.catalog, self.bell, LEASE)

    def workers(self, slots: int, *providers: str, name: str = "elsewhere/1/5/5") -> None:
        queues = [provider_queue(one) for one in providers or ("mill", "slow", "pair")]
        self.database.write(lambda session: processes.register(session, name, "w", queues, slots))

    def tick(self) -> list[int]:
        """The slices that are rung now."""
        self.bell.rung.clear()
        self.dispatcher.tick()
        return [message["slice"] for message in self.bell.rung]

    def batches_of(self, rung: list[int]) -> Counter[int]:
        return Counter(grist.slice_of(self.database, slice).batch for slice in rung)


@pytest.fixture
def control(database: Database, home: Path) -> Control:
    return Control(database)


def pause(control: Control, scope: str = SCOPE_OF_MILL, *, probe_in: float = 3600.0) -> None:
    control.database.write(lambda session: scopes.pause(session, scope, "auth", "no", wait=None))
    statement = SCOPE.update().where(SCOPE.c.id == scope).values(probe_at=clock.now() + probe_in)
    control.database.write(lambda session: session.connection().execute(statement))


def test_without_a_living_worker_nothing_leaves_sql(control: Control, database: Database) -> None:
    grist.add(database, 1)
    assert control.tick() == []
    control.workers(4, "pair")
    assert control.tick() == []
    control.workers(4, "mill", name="elsewhere/1/6/6")
    assert len(control.tick()) == 1
    assert control.tick() == []


def test_a_message_carries_ids_and_an_epoch(control: Control, database: Database) -> None:
    control.workers(1)
    number = grist.add(database, 7)
    [slice] = control.tick()
    assert control.bell.rung == [
        {
            "provider": "mill",
            "batch_id": grist.batch(database, number).id,
            "slice": slice,
            "epoch": 0,
            "jobs": 7,
            "probe": None,
        }
    ]


def test_no_more_than_the_workers_can_hold(control: Control, database: Database, worker: Worker) -> None:
    control.workers(3)
    number = grist.add(database, *[1] * 10)
    first = control.tick()
    assert len(first) == 3 and control.tick() == []
    claim = worker.begin(first[0])
    assert control.tick() == []
    worker.record(grist.end(claim, claim.jobs[0]))
    assert len(control.tick()) == 1
    rows = grist.slices_of(database, number, SliceState.READY)
    assert [row.first_line for row in rows] == list(range(5, 11))


def test_a_small_batch_does_not_wait_behind_a_large_one(control: Control, database: Database) -> None:
    control.workers(4)
    large = grist.add(database, *[1] * 50)
    small = grist.add(database, 1, 1)
    assert control.batches_of(control.tick()) == {large: 2, small: 2}


def test_owners_share_however_many_batches_they_have(control: Control, database: Database) -> None:
    control.workers(6)
    many = [grist.add(database, 1, 1, 1, owner="many") for _ in range(5)]
    one = grist.add(database, 1, 1, 1, owner="one")
    rung = control.batches_of(control.tick())
    assert rung[one] == 3 == sum(rung[number] for number in many)


def test_priority_goes_first(control: Control, database: Database) -> None:
    control.workers(3)
    grist.add(database, *[1] * 5)
    urgent = grist.add(database, 1, 1, 1, 1, priority=5)
    assert control.batches_of(control.tick()) == {urgent: 3}


def test_lines_beyond_the_limit_stay_in_sql(control: Control, database: Database) -> None:
    control.workers(9)
    number = grist.add(database, 5, 5, 5, line_limit=6)
    assert len(control.tick()) == 2
    assert grist.batch(database, number).blocked_since is None


@pytest.mark.parametrize("columns", [{"paused_at": 1.0}, {"capped_at": 1.0}, {"stop": "cancel"}])
def test_a_batch_that_rests_is_not_dispatched(control: Control, database: Database, columns: dict[str, Any]) -> None:
    control.workers(9)
    grist.add(database, 1, **columns)
    assert control.tick() == []


def test_a_slice_waits_for_its_time(control: Control, database: Database, worker: Worker) -> None:
    control.workers(9)
    grist.add(database, 1)
    claim = worker.begin(control.tick()[0])
    worker.record(grist.end(claim, claim.jobs[0], Outcome.RETRY))
    worker.release(claim, wait=500.0)
    assert control.tick() == []
    grist.change_slice(database, claim.slice, not_before=clock.now() - 1)
    assert control.tick() == [claim.slice]


def test_a_limited_model_is_not_published_ahead_of_its_quota(control: Control, database: Database) -> None:
    control.workers(16)
    grist.add(database, *[30] * 9, routes=(SLOW,))
    assert len(control.tick()) == 1


def test_a_limited_model_does_not_stand_before_another(control: Control, database: Database) -> None:
    """The first hundred slices are all of one model, whose quota is small."""
    control.workers(4)
    grist.add(database, *[1] * 60, routes=(SLOW,))
    number = grist.add(database, *[30] * 40, 1, routes=(*[SLOW] * 40, "mill/flour"))
    rung = [grist.slice_of(database, slice) for slice in control.tick()]
    assert "mill/flour" in {row.route for row in rung if row.batch == number}


def test_a_route_that_nobody_knows_any_more_blocks_only_itself(control: Control, database: Database) -> None:
    control.workers(9)
    gone = grist.add(database, 1, routes=("gone/model",))
    good = grist.add(database, 1)
    assert control.batches_of(control.tick()) == {good: 1}
    assert grist.batch(database, gone).blocked_since is not None


# Resting scopes


def test_a_resting_scope_blocks_its_lines_and_their_window(control: Control, database: Database) -> None:
    control.workers(9)
    number = grist.add(database, 1)
    other = grist.add(database, 1, routes=("pair/flour",))
    pause(control)
    assert control.batches_of(control.tick()) == {other: 1}
    row = grist.batch(database, number)
    assert row.blocked_since is not None and row.expires_at is not None
    assert grist.batch(database, other).blocked_since is None
    grist.change(database, number, blocked_since=clock.now() - 1_000)
    before = row.expires_at
    database.write(lambda session: scopes.resume(session, [SCOPE_OF_MILL]))
    assert len(control.tick()) == 1
    row = grist.batch(database, number)
    assert row.blocked_since is None and row.expires_at is not None
    assert 990 < row.expires_at - before < 1_060


def test_one_slice_finds_out_whether_a_scope_works_again(control: Control, database: Database, worker: Worker) -> None:
    control.workers(9)
    grist.add(database, 1, 1, 1)
    grist.add(database, 1)
    pause(control, probe_in=-1.0)
    [slice] = control.tick()
    assert control.bell.rung[0]["probe"] == SCOPE_OF_MILL
    assert control.tick() == []
    claim = worker.claim(slice)
    worker.release(claim)
    assert control.tick() == []
    database.write(lambda session: scopes.resume(session, [SCOPE_OF_MILL]))
    assert len(control.tick()) == 4


def test_an_alias_goes_to_the_deployment_that_does_not_rest(control: Control, database: Database) -> None:
    control.workers(9)
    grist.add(database, 1, routes=("either",))
    pause(control)
    control.tick()
    assert [message["provider"] for message in control.bell.rung] == ["pair"]


def test_a_paused_model_of_a_batch_stays(control: Control, database: Database, worker: Worker) -> None:
    control.workers(1)
    number = grist.add(database, 20, 5)
    claim = worker.begin(control.tick()[0])
    worker.record(*(grist.end(claim, job, Outcome.FAILED) for job in claim.jobs))
    assert control.tick() == []
    assert grist.batch(database, number).blocked_since is not None
    id = grist.batch(database, number).id
    database.write(lambda session: batches.resume(session, "local", id))
    assert len(control.tick()) == 1
    assert grist.batch(database, number).blocked_since is None


# Rings that nobody heard


def test_who_did_not_hear_is_rung_again_with_longer_and_longer_waits(control: Control, database: Database) -> None:
    control.workers(9)
    control.bell.deaf = True
    grist.add(database, 1)
    [slice] = control.tick()
    for ring, seconds in enumerate((10, 20, 40, 80, 160, 320, 320, 320), start=1):
        grist.change_slice(database, slice, published_at=clock.now() - seconds + 3)
        assert control.tick() == [], ring
        grist.change_slice(database, slice, published_at=clock.now() - seconds - 1)
        assert control.tick() == [slice], ring
        assert control.bell.rung[0]["epoch"] == 0
    grist.change_slice(database, slice, published=100_000, published_at=1.0)
    assert control.tick() == [slice]


def test_a_claimed_slice_is_not_rung_again(control: Control, database: Database, worker: Worker) -> None:
    control.workers(9)
    grist.add(database, 1)
    [slice] = control.tick()
    worker.claim(slice)
    grist.change_slice(database, slice, published_at=1.0)
    assert control.tick() == []


# Small slices


def test_what_is_left_of_many_slices_becomes_one(control: Control, database: Database, worker: Worker) -> None:
    number = grist.add(database, *[10] * 4, 200)
    for row in grist.slices_of(database, number)[:4]:
        claim = worker.begin(row.id)
        worker.record(*(grist.end(claim, job) for job in claim.jobs[:7]))
        worker.release(claim)
    control.dispatcher.merge_small()
    large, merged = grist.slices_of(database, number, SliceState.READY)
    assert (large.open, merged.open, merged.first_line) == (200, 12, 8)
    truth.check(database)
    assert len(worker.begin(merged.id).jobs) == 12
    truth.check(database)


def test_slices_of_two_models_are_not_merged(control: Control, database: Database) -> None:
    number = grist.add(database, 2, 2, 2, 2, routes=("mill/flour", "pair/flour"))
    control.dispatcher.merge_small()
    ready = grist.slices_of(database, number, SliceState.READY)
    assert sorted((row.route, row.open) for row in ready) == [("mill/flour", 4), ("pair/flour", 4)]
    truth.check(database)


def test_a_slice_that_was_published_meanwhile_is_left_alone(
    control: Control, database: Database, worker: Worker
) -> None:
    number = grist.add(database, 2, 2, 2)
    ids = [row.id for row in grist.slices_of(database, number)]
    worker.claim(ids[0])
    database.write(lambda session: dispatching.merge(session, number, ids[:2]))
    assert len(grist.slices_of(database, number)) == 3
    database.write(lambda session: dispatching.merge(session, number, ids))
    assert sorted(row.open for row in grist.slices_of(database, number)) == [0, 0, 2, 4]
    truth.check(database)


def test_held_jobs_go_first_and_wait_for_a_resting_scope_without_blocking_others(control: Control) -> None:
    control.workers(4)
    batch = grist.add(control.database, 2)
    [job] = control.database.write(lambda session: held.create(session, [new_held()]))
    assert job.slice is not None
    grist.change_slice(control.database, job.slice, state=SliceState.READY)
    rung = control.tick()
    assert rung[0] == job.slice and control.bell.rung[0]["held"] and len(rung) == 2
    assert grist.slice_of(control.database, job.slice).provider is None
    grist.change_slice(control.database, job.slice, state=SliceState.READY)
    pause(control)
    assert control.tick() == []
    assert grist.batch(control.database, job.number).blocked_since is not None
    pause(control, probe_in=0.0)
    assert control.tick() == [job.slice] and control.bell.rung[0]["probe"] == SCOPE_OF_MILL
    assert batch


def test_a_held_job_that_nobody_took_is_rung_again(control: Control) -> None:
    [job] = control.database.write(lambda session: held.create(session, [new_held()]))
    assert job.slice is not None
    assert control.tick() == []
    grist.change_slice(control.database, job.slice, published_at=0.0)
    assert control.tick() == [job.slice]


def test_a_long_batch_leaves_places_to_the_first_slices_of_others(control: Control, database: Database) -> None:
    control.workers(16)
    long = grist.add(database, *[1] * 40)
    assert control.batches_of(control.tick()) == {long: 14}
    shorts = [grist.add(database, 2) for _ in range(3)]
    assert control.batches_of(control.tick()) == dict.fromkeys(shorts[:2], 1)


def test_a_new_batch_is_heard_where_an_old_one_has_filled_the_quota(control: Control, database: Database) -> None:
    control.workers(16)
    grist.add(database, *[10] * 4, routes=[SLOW])
    assert len(control.tick()) == 1
    assert control.tick() == []
    short = grist.add(database, 5, routes=[SLOW])
    assert control.batches_of(control.tick()) == {short: 1}
