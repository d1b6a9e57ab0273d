"""Which provider gets a slice, and which fallback: strategies, rests and permissions as the dispatcher sees them."""

import dataclasses
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import Session

from providers.pricing import PriceBook
from tests import grist
from tests.grist import Worker
from tests.worker.control.test_dispatcher import Bell
from tests.worker.store.test_held import new as new_held
from worker import clock, config, settings
from worker.catalog import Catalog
from worker.celery_app import provider_queue
from worker.control.dispatcher import Dispatcher
from worker.database import Database
from worker.routes import Routes
from worker.states import SliceState
from worker.store import held, processes, scopes
from worker.tables import PROCESS, SCOPE, SCOPE_REPORT

CONFIG = """
providers:
  mill: {base_url: 'http://127.0.0.1:9/v1'}
  pair: {base_url: 'http://127.0.0.1:9/v1'}
  slow: {base_url: 'http://127.0.0.1:9/v1', rpm: 60}
models:
  both: {deployments: [{model: mill/flour, weight: 8}, {model: pair/flour, weight: 2}]}
  cheap: {deployments: [mill/flour, pair/flour], strategy: lowest_cost}
  idle: {deployments: [mill/flour, pair/flour], strategy: least_busy}
  quick: {deployments: [mill/flour, pair/flour], strategy: lowest_latency}
  roomy: {deployments: [slow/flour, pair/flour], strategy: most_headroom}
  judge: {deployments: [mill/flour], fallbacks: {general: [spare, slow/flour]}}
  spare: {deployments: [pair/flour], fallbacks: {context_window: [judge]}}
prices:
  mill/flour: {input: 5, output: 5}
  pair/flour: {input: 1, output: 1}
"""
MILL, PAIR, SLOW = "mill/default/flour", "pair/default/flour", "slow/default/flour"


class Control:
    def __init__(self, database: Database) -> None:
        parsed, loaded = config.parse(CONFIG), settings.load()
        prices = PriceBook({name: section.model_dump() for name, section in parsed.prices.items()})
        self.database, self.bell = database, Bell()
        catalog = Catalog(parsed, Routes(parsed, loaded), prices, loaded)
        self.dispatcher = Dispatcher(database, catalog, self.bell, grist.LEASE)
        queues = [provider_queue(one) for one in ("mill", "pair", "slow")]
        database.write(lambda session: processes.register(session, "elsewhere/1/5/5", "w", queues, 64))

    def tick(self) -> list[dict[str, Any]]:
        self.bell.rung.clear()
        self.dispatcher.tick()
        return list(self.bell.rung)

    def providers(self) -> Counter[str]:
        """Jobs that each provider gets now."""
        found = Counter[str]()
        for message in self.tick():
            found[message["provider"]] += message["jobs"]
        return found

    def pause(self, *names: str, probe_in: float = 3_600.0) -> None:
        for scope in names:
            rest = partial(scopes.pause, scope=scope, reason="outage", detail="no", wait=None)
            self.database.write(rest)
        change = SCOPE.update().where(SCOPE.c.id.in_(names)).values(probe_at=clock.now() + probe_in)
        self.database.write(lambda session: session.connection().execute(change))

    def trails(self, number: int) -> list[tuple[str, str]]:
        rows = grist.slices_of(self.database, number, SliceState.PUBLISHED)
        return [(row.provider, row.trail) for row in rows]


def _execute(session: Session, statement: Any) -> None:
    session.connection().execute(statement)


@pytest.fixture
def control(database: Database, home: Path) -> Control:
    return Control(database)


def test_a_batch_is_shared_by_weight(control: Control, database: Database) -> None:
    grist.add(database, *[4] * 50, routes=("both",))
    assert control.providers() == {"mill": 160, "pair": 40}


def test_a_provider_without_workers_is_given_nothing(control: Control, database: Database) -> None:
    mine = {"queues": [provider_queue("pair")]}
    database.write(partial(_execute, statement=PROCESS.update().values(**mine)))
    grist.add(database, *[2] * 10, routes=("both",))
    assert control.providers() == {"pair": 20}


def test_two_batches_are_shared_each(control: Control, database: Database) -> None:
    first, second = (grist.add(database, *[2] * 10, routes=("both",)) for _ in range(2))
    control.tick()
    for number in (first, second):
        rows = grist.slices_of(database, number, SliceState.PUBLISHED)
        assert Counter(row.provider for row in rows) == {"mill": 8, "pair": 2}


def test_the_cheapest_gets_all(control: Control, database: Database) -> None:
    grist.add(database, *[2] * 10, routes=("cheap",))
    assert control.providers() == {"pair": 20}


def test_the_least_busy_gets_the_next(control: Control, database: Database) -> None:
    grist.add(database, 30)
    grist.add(database, *[5] * 10, routes=("idle",))
    assert control.providers() == {"mill": 40, "pair": 40}


def test_the_quickest_gets_nearly_all(control: Control, database: Database) -> None:
    zero = dict.fromkeys(("in_flight", "waiting", "places", "requests", "tokens"), 0)
    said = {**zero, "process": "p", "owner": "operator", "reported_at": clock.now()}
    for scope, seconds in ((MILL, 4.0), (PAIR, 0.5)):
        statement = SCOPE_REPORT.insert().values(scope=scope, seconds=seconds, **said)
        database.write(partial(_execute, statement=statement))
    grist.add(database, *[2] * 20, routes=("quick",))
    found = control.providers()
    assert found["pair"] >= 36 and found.total() == 40


def test_who_has_room_under_its_limit_gets_more(control: Control, database: Database) -> None:
    grist.add(database, *[4] * 10, routes=("roomy",))
    assert control.providers() == {"pair": 36, "slow": 4}


@pytest.mark.parametrize("how", ["rests", "cools"])
def test_the_other_takes_over_at_once(control: Control, database: Database, how: str) -> None:
    grist.add(database, *[2] * 10, routes=("both",))
    pinned = grist.add(database, 3)
    if how == "rests":
        control.pause(MILL)
    else:
        database.write(lambda session: scopes.cool(session, MILL, 60.0))
    found = control.providers()
    assert found["pair"] == 20
    assert found["mill"] == (0 if how == "rests" else 3)
    assert (grist.batch(database, pinned).blocked_since is not None) == (how == "rests")


def test_if_all_cool_the_one_that_is_nearest_to_its_end_goes_on(control: Control, database: Database) -> None:
    database.write(lambda session: scopes.cool(session, MILL, 60.0))
    database.write(lambda session: scopes.cool(session, PAIR, 20.0))
    grist.add(database, *[2] * 3, routes=("both",))
    assert control.providers() == {"pair": 6}


# Fallbacks


def test_a_batch_that_allows_it_goes_on_where_nobody_rests(control: Control, database: Database) -> None:
    number = grist.add(database, 2, 2, routes=("judge",), allow_fallback=True)
    strict = grist.add(database, 2, routes=("judge",))
    control.pause(MILL)
    assert control.providers() == {"pair": 4}
    assert set(control.trails(number)) == {("pair", "general spare")}
    assert grist.batch(database, number).blocked_since is None
    assert grist.batch(database, strict).blocked_since is not None


def test_the_next_one_if_that_rests_too_and_none_twice(control: Control, database: Database) -> None:
    number = grist.add(database, 2, routes=("judge",), allow_fallback=True)
    control.pause(MILL, PAIR)
    control.tick()
    assert control.trails(number) == [("slow", "general slow/flour")]
    other = grist.add(database, 2, routes=("spare",), allow_fallback=True)
    control.pause(SLOW)
    assert control.tick() == []
    assert grist.batch(database, other).blocked_since is not None


def test_one_slice_probes_and_the_others_do_not_wait_for_it(control: Control, database: Database) -> None:
    number = grist.add(database, 1, 1, 1, routes=("judge",), allow_fallback=True)
    control.pause(MILL, probe_in=-1.0)
    probes = [message["probe"] for message in control.tick()]
    assert sorted(probes, key=str) == [None, None, MILL]
    assert sorted(control.trails(number)) == [("mill", ""), ("pair", "general spare"), ("pair", "general spare")]


def test_a_named_model_waits_even_where_fallbacks_are_allowed(control: Control, database: Database) -> None:
    number = grist.add(database, 2, allow_fallback=True)
    control.pause(MILL)
    assert control.tick() == []
    assert grist.batch(database, number).blocked_since is not None


def test_a_price_that_is_unknown_is_no_way_for_a_limited_batch(control: Control, database: Database) -> None:
    limited = grist.add(database, 2, routes=("judge",), allow_fallback=True, max_cost=10**15)
    free = grist.add(database, 2, routes=("judge",), allow_fallback=True)
    control.pause(MILL, PAIR)
    control.tick()
    assert (control.trails(limited), control.trails(free)) == ([], [("slow", "general slow/flour")])


def test_what_has_gone_on_stays_there_and_goes_further(control: Control, database: Database, worker: Worker) -> None:
    number = grist.add(database, 2, routes=("judge",), allow_fallback=True)
    control.pause(MILL)
    [message] = control.tick()
    claim = worker.claim(message["slice"])
    assert (claim.provider, claim.serving) == ("pair", "spare")
    worker.release(claim)
    database.write(lambda session: scopes.resume(session, [MILL]))
    assert control.providers() == {"pair": 2}
    worker.release(worker.claim(message["slice"], provider="pair"))
    control.pause(PAIR)
    assert control.tick() and control.trails(number) == [("slow", "general spare\ngeneral slow/flour")]


def test_a_held_job_goes_on_like_any_line(control: Control, database: Database) -> None:
    for allow in (False, True):
        job = new_held()
        job = dataclasses.replace(job, allow_fallback=allow, job=dataclasses.replace(job.job, route="judge"))
        [made] = database.write(partial(held.create, news=[job]))
        grist.change_slice(database, made.slice or 0, state=SliceState.READY)
    control.pause(MILL)
    [message] = control.tick()
    assert message["held"]
    assert grist.slice_of(database, message["slice"]).trail == "general spare"
