from collections.abc import Callable, Sequence
from typing import Any

import pytest
from sqlmodel import Session

from tests import grist, rows, truth
from tests.grist import Worker
from worker import clock
from worker.control import closer as closers
from worker.control.closer import Closer
from worker.database import Database, DatabaseAway
from worker.store import batches, due, endings
from worker.tables import Event

EVENTS = Event.__table__  # type: ignore[attr-defined]


class Bell:
    def __init__(self) -> None:
        self.intakes: list[int] = []

    def ring_intake(self, batch: int) -> bool:
        self.intakes.append(batch)
        return False

    def ring_slice(self, **message: Any) -> bool:
        raise AssertionError("not here")

    def ring_held(self, slices: Sequence[tuple[int, int]], probe: str | None = None) -> bool:
        raise AssertionError("not here")


@pytest.fixture
def bell() -> Bell:
    return Bell()


@pytest.fixture
def closer(database: Database, bell: Bell) -> Closer:
    return Closer(database, bell)


def wait_of(database: Database, number: int) -> float:
    due_at = grist.batch(database, number).due_at
    assert due_at is not None
    return due_at - database.now()


def make_due(database: Database, number: int) -> None:
    grist.change(database, number, due_at=clock.now() - 1)


def test_a_lost_intake_is_rung_again_with_longer_and_longer_waits(
    database: Database, closer: Closer, bell: Bell
) -> None:
    number = database.write(rows.add_batch).number
    assert number is not None
    for ring, seconds in enumerate((2, 4, 8, 16, 32, 64, 128, 128), start=1):
        make_due(database, number)
        closer.tick()
        assert bell.intakes == [number] * ring
        assert seconds - 2 < wait_of(database, number) <= seconds
    grist.change(database, number, due_at=1.0, due_tries=100_000)
    closer.tick()
    assert 100 < wait_of(database, number) <= 128


def test_what_is_not_due_is_left_alone(database: Database, closer: Closer, bell: Bell) -> None:
    number = database.write(rows.add_batch).number
    assert number is not None
    grist.change(database, number, due_at=clock.now() + 100)
    closer.tick()
    assert bell.intakes == []


def test_a_batch_without_open_lines_comes_to_rest(database: Database, closer: Closer) -> None:
    number = grist.add(database, bad=2)
    make_due(database, number)
    closer.tick()
    row = grist.batch(database, number)
    assert (row.status, row.due_at) == ("completed", None)
    truth.check(database)


def test_a_cancelled_batch_waits_for_its_calls_and_then_rests(
    database: Database, closer: Closer, worker: Worker
) -> None:
    number = grist.add(database, 1, 1)
    claim = worker.begin(grist.slices_of(database, number)[0].id)
    id = grist.batch(database, number).id
    database.write(lambda session: batches.request_cancel(session, "local", id))
    closer.tick()
    row = grist.batch(database, number)
    assert (row.status, row.open) == ("cancelling", 1) and 0 < wait_of(database, number) <= 1
    worker.record(grist.end(claim, claim.jobs[0]))
    closer.tick()
    row = grist.batch(database, number)
    assert (row.status, row.completed, row.failed) == ("cancelled", 1, 1)
    assert [event.type for event in grist.all_of(database, EVENTS)] == ["batch.cancelled"]
    truth.check(database)


def test_a_batch_expires_when_its_window_has_passed(database: Database, closer: Closer) -> None:
    number = grist.add(database, 2)
    make_due(database, number)
    closer.tick()
    assert 0 < wait_of(database, number) <= 60
    grist.change(database, number, expires_at=clock.now() - 1, due_at=1.0)
    closer.tick()
    assert grist.batch(database, number).status == "expired"
    truth.check(database)


@pytest.mark.parametrize(("left", "least", "most"), [(10.0, 5.0, 10.0), (10_000.0, 55.0, 60.0), (None, 55.0, 60.0)])
def test_a_running_batch_is_looked_at_when_its_window_ends(
    database: Database, closer: Closer, left: float | None, least: float, most: float
) -> None:
    number = grist.add(database, 1)
    grist.change(database, number, due_at=1.0, expires_at=None if left is None else clock.now() + left)
    closer.tick()
    assert least < wait_of(database, number) <= most


def test_a_blocked_batch_does_not_expire(database: Database, closer: Closer) -> None:
    number = grist.add(database, 1)
    grist.change(database, number, due_at=1.0, expires_at=clock.now() - 1, blocked_since=clock.now() - 100)
    closer.tick()
    assert grist.batch(database, number).status == "in_progress"
    assert wait_of(database, number) > 50


def test_the_end_of_a_long_batch_takes_several_ticks(
    database: Database, closer: Closer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closers, "STOP_SECONDS", 0.0)
    monkeypatch.setattr(endings, "MOST_JOBS", 2)
    number = grist.add(database, 5)
    grist.stop(database, number)
    ticks = 0
    while grist.batch(database, number).status == "cancelling":
        closer.tick()
        ticks += 1
        assert ticks < 10
    assert ticks == 4
    truth.check(database)


def test_one_batch_that_cannot_be_closed_does_not_hold_up_the_others(
    database: Database, closer: Closer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sick, well = grist.add(database, bad=1), grist.add(database, bad=1)
    grist.change(database, sick, due_at=1.0)
    grist.change(database, well, due_at=2.0)
    broken(monkeypatch, sick, ValueError("a defect"))
    closer.tick()
    assert grist.batch(database, well).status == "completed"
    assert 50 < wait_of(database, sick) <= 60


def test_a_database_that_is_away_is_everybodys_trouble(
    database: Database, closer: Closer, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = grist.add(database, bad=1)
    make_due(database, number)
    broken(monkeypatch, number, DatabaseAway("away"))
    with pytest.raises(DatabaseAway):
        closer.tick()


def broken(monkeypatch: pytest.MonkeyPatch, number: int, error: Exception) -> None:
    real: Callable[..., Any] = endings.finalize

    def finalize(session: Session, batch: int) -> Any:
        if batch == number:
            raise error
        return real(session, batch)

    monkeypatch.setattr(endings, "finalize", finalize)


@pytest.mark.parametrize("event", ["its last line ends", "it is cancelled"])
def test_what_happens_while_a_batch_is_looked_at_is_seen_at_once(
    database: Database, closer: Closer, worker: Worker, monkeypatch: pytest.MonkeyPatch, event: str
) -> None:
    number = grist.add(database, 1)
    claim = worker.begin(grist.slices_of(database, number)[0].id)
    id = grist.batch(database, number).id
    make_due(database, number)
    read = due.batches

    def then_it_happens(session: Session) -> Any:
        rows = read(session)
        if event == "it is cancelled":
            database.write(lambda session: batches.request_cancel(session, "local", id))
        worker.record(grist.end(claim, claim.jobs[0]))
        return rows

    with monkeypatch.context() as patched:
        patched.setattr(due, "batches", then_it_happens)
        closer.tick()
    assert wait_of(database, number) <= 0
    closer.tick()
    assert grist.batch(database, number).status == ("cancelled" if event == "it is cancelled" else "completed")
    truth.check(database)


def test_a_failed_batch_is_cleared_and_rests(database: Database, closer: Closer) -> None:
    number = grist.add(database, 3)
    grist.change(database, number, status="failed", due_at=1.0, open=0, total=0)
    closer.tick()
    assert grist.slices_of(database, number) == []
    assert grist.batch(database, number).due_at is None


def test_due_batches_come_longest_overdue_first(database: Database) -> None:
    numbers = [grist.add(database, 1) for _ in range(3)]
    for place, number in enumerate(reversed(numbers)):
        grist.change(database, number, due_at=1.0 + place)
    with database.read() as session:
        assert [row.number for row in due.batches(session)] == numbers[::-1]
