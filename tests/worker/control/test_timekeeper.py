"""Simulated histories: batches whose lines end at a known rate, and what is said of them on the way."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlmodel import Session

from providers.pricing import PriceBook
from tests import grist
from worker import config
from worker.catalog import Catalog, NotedQuotas
from worker.control.timekeeper import Timekeeper
from worker.database import Database
from worker.routes import Routes
from worker.settings import Settings
from worker.store import etas, scopes
from worker.tables import BATCH, ETA, TALLY

ROUTE, SCOPE = "simulator/flour", "simulator/default/flour"
BREAD = "simulator/bread"


@dataclass
class History:
    """``rates``: lines a second of a (batch, route). The keeper looks every two seconds of its own clock."""

    database: Database
    catalog: Catalog
    rates: dict[tuple[int, str], Callable[[float], float]] = field(default_factory=dict)
    now: float = 1_000.0
    owed: dict[tuple[int, str], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.keeper = Timekeeper(self.database, self.catalog, clock=lambda: self.now)

    def batch(self, lines: int, *, rate: float | Callable[[float], float], route: str = ROUTE, **columns: Any) -> int:
        number = grist.add(self.database, lines, routes=(route,), **columns)
        self.rates[number, route] = rate if callable(rate) else lambda _: rate
        return number

    def pass_by(self, seconds: float) -> None:
        for _ in range(int(seconds / 2)):
            self.now += 2
            self.database.write(self._end_lines)
            self.keeper.tick()

    def _end_lines(self, session: Session) -> None:
        for (batch, route), rate in self.rates.items():
            self.owed[batch, route] = self.owed.get((batch, route), 0.0) + 2 * rate(self.now)
            ended = int(self.owed[batch, route])
            self.owed[batch, route] -= ended
            mine = (TALLY.c.batch == batch) & (TALLY.c.route == route)
            values = {"completed": TALLY.c.completed + ended, "output_tokens": TALLY.c.output_tokens + 50 * ended}
            session.connection().execute(TALLY.update().where(mine).values(values))

    def left(self, batch: int) -> float | None:
        with self.database.read() as session:
            eta = etas.fresh(session, [batch]).get(batch)
        return None if eta is None else float(eta.seconds_left)


def history(database: Database, text: str = "") -> History:
    configuration, settings = config.parse(text), Settings(simulator_url="http://127.0.0.1:1/v1")
    return History(database, Catalog(configuration, Routes(configuration, settings), PriceBook({}), settings))


def test_a_steady_batch_is_told_from_its_pace(database: Database) -> None:
    run = history(database)
    batch = run.batch(600, rate=2.0)
    run.pass_by(4)
    assert run.left(batch) is None
    for passed in (96, 100, 60):
        run.pass_by(passed)
        assert run.left(batch) == pytest.approx(300 - (run.now - 1_000), rel=0.05, abs=3)


@pytest.mark.parametrize("seconds_a_line", [0.5, 45.0])
def test_quick_and_slow_ones_are_right_all_the_way(database: Database, seconds_a_line: float) -> None:
    run, lines = history(database), 100
    batch = run.batch(lines, rate=1 / seconds_a_line)
    whole = lines * seconds_a_line
    run.pass_by(whole / 4)
    for _ in range(3):
        assert run.left(batch) == pytest.approx(whole - (run.now - 1_000), rel=0.25)
        run.pass_by(whole / 5)


def test_a_limit_that_becomes_less_counts_at_once(database: Database) -> None:
    run = history(database, "providers: {simulator: {rpm: 120}}")
    batch = run.batch(1_000, rate=2.0)
    run.pass_by(100)
    assert run.left(batch) == pytest.approx(400, rel=0.05)
    run.catalog.note(NotedQuotas(learned={SCOPE: {"requests": 30.0}}))
    run.pass_by(2)
    assert run.left(batch) == pytest.approx(1_600, rel=0.05)
    run.catalog.note(NotedQuotas(shares={SCOPE: 0.5}))
    run.pass_by(2)
    assert run.left(batch) == pytest.approx(800, rel=0.05)


def test_tokens_are_counted_as_lines_really_use_them(database: Database) -> None:
    run = history(database, "providers: {simulator: {tpm: 6000}}")
    batch = run.batch(1_000, rate=2.0)
    run.pass_by(100)
    assert run.left(batch) == pytest.approx(400, rel=0.05)


def test_another_batch_takes_its_share(database: Database) -> None:
    run = history(database, "providers: {simulator: {rpm: 120}}")
    long = run.batch(1_000, rate=lambda now: 2.0 if now <= 1_100 else 1.0)
    run.pass_by(100)
    short = run.batch(100, rate=1.0)
    run.pass_by(40)
    assert run.left(short) == pytest.approx(60, rel=0.1, abs=3)
    assert run.left(long) == pytest.approx(410, rel=0.05)


def test_the_higher_priority_goes_first(database: Database) -> None:
    run = history(database)
    low, high = run.batch(200, rate=0.0), run.batch(200, rate=2.0, priority=5)
    run.pass_by(20)
    assert run.left(high) == pytest.approx(80, rel=0.1)
    assert run.left(low) == pytest.approx(180, rel=0.1)


def test_models_of_other_scopes_are_apart_and_the_slowest_counts(database: Database) -> None:
    run = history(database)
    batch = grist.add(database, 100, 100, routes=(ROUTE, BREAD))
    run.rates = {(batch, ROUTE): lambda _: 2.0, (batch, BREAD): lambda _: 0.5}
    other = run.batch(100, rate=1.0, route="simulator/rolls")
    run.pass_by(40)
    assert run.left(batch) == pytest.approx(160, rel=0.1)
    assert run.left(other) == pytest.approx(60, rel=0.1)


def test_what_waits_for_a_person_or_a_provider_has_no_end_in_sight(database: Database) -> None:
    run = history(database)
    batch, other = run.batch(600, rate=2.0), run.batch(600, rate=2.0, route=BREAD)
    run.pass_by(30)
    assert run.left(batch) is not None
    database.write(lambda session: scopes.pause(session, SCOPE, "auth", "no", wait=None))
    grist.change(database, other, paused_at=1.0)
    run.pass_by(2)
    assert run.left(batch) is None and run.left(other) is None
    database.write(lambda session: scopes.resume(session, [SCOPE]))
    run.pass_by(4)
    assert run.left(batch) is None, "its pace is not known again yet"
    run.pass_by(10)
    assert run.left(batch) is not None


def test_only_wanted_lines_count(database: Database) -> None:
    run = history(database)
    batch = run.batch(600, rate=2.0, line_limit=200)
    run.pass_by(50)
    assert run.left(batch) == pytest.approx(50, rel=0.1)
    run.pass_by(60)
    assert run.left(batch) is None


def test_a_batch_that_ends_is_forgotten(database: Database) -> None:
    run = history(database)
    batch = run.batch(600, rate=2.0)
    run.pass_by(30)
    database.write(lambda session: session.connection().execute(BATCH.update().values(status="completed")))
    run.pass_by(2)
    with database.read() as session:
        assert etas.stored(session) == {}
    assert run.left(batch) is None


def test_a_model_that_leads_nowhere_has_no_end(database: Database) -> None:
    run = history(database)
    batch = run.batch(10, rate=1.0, route="nowhere/flour")
    run.pass_by(20)
    assert run.left(batch) is None


def test_little_news_is_not_written(database: Database) -> None:
    run = history(database)
    run.batch(60_000, rate=2.0)
    run.pass_by(40)
    before = grist.all_of(database, ETA)
    run.pass_by(4)
    assert grist.all_of(database, ETA) == before
