"""What is told of running batches, on both databases."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from sqlmodel import Session, col, select

from providers.pricing import PriceBook
from tests import rows
from worker.catalog import Catalog
from worker.config import Config
from worker.control.herald import Herald
from worker.database import Database
from worker.routes import Routes
from worker.settings import Settings
from worker.store import deliveries, endings, fan_out, notices, scopes, webhooks
from worker.store.deliveries import Receiver
from worker.tables import Batch, Delivery, Event, Scope, Tally
from worker.webhooks import event_types
from worker.webhooks.sender import Answer

MODEL = "simulator/tiny"
URL = "https://example.com/hook"
OK = Answer(status=200, error=None, body=b"", wait=None, seconds=0.0)
FAILED = Answer(status=500, error=None, body=b"", wait=None, seconds=0.0)

Tick = Callable[[], list[Event]]


@pytest.fixture
def catalog() -> Catalog:
    settings = Settings(simulator_url="http://127.0.0.1:1/v1")
    return Catalog(Config(), Routes(Config(), settings), PriceBook({}), settings)


@pytest.fixture
def tick(database: Database, catalog: Catalog) -> Tick:
    """Look around, and say what was ever noted and is still kept."""
    herald = Herald(database, catalog, seconds=0.0)

    def look() -> list[Event]:
        herald.tick()
        with database.read() as session:
            return list(session.exec(select(Event).order_by(col(Event.created_at), col(Event.number))))

    return look


def begin(session: Session, *, events: list[str] | None = None) -> int:
    batch = rows.begin(session, rows.add_batch(session))
    assert batch.number is not None
    session.add(Tally(batch=batch.number, route=MODEL, owner="local", lines=5))
    batch.total = batch.open = 5
    if events is not None:
        batch.webhook_endpoint, batch.webhook_events = webhooks.for_batches(session, "local", URL).id, events
    session.flush()
    return batch.number


def advance(session: Session, number: int) -> None:
    batch = session.get_one(Batch, number)
    batch.completed, batch.open = batch.completed + 1, batch.open - 1


def block(session: Session, catalog: Catalog, *, since: float = 60.0) -> None:
    [scope] = catalog.scopes(MODEL)
    scopes.pause(session, scope, "auth", "the key is refused", wait=None)
    row = session.get_one(Scope, scope)
    row.paused_at = (row.paused_at or 0.0) - since


def data(event: Event) -> dict[str, Any]:
    assert event.data is not None
    return event.data


def test_without_anybody_who_asked_nothing_is_noted(database: Database, catalog: Catalog, tick: Tick) -> None:
    database.write(begin)
    database.write(partial(begin, events=["batch.completed"]))
    database.write(partial(block, catalog=catalog))
    assert tick() == []


def test_progress_is_noted_when_it_changes(database: Database, tick: Tick) -> None:
    number = database.write(partial(begin, events=["batch.progress"]))
    assert len(tick()) == len(tick()) == 1
    database.write(partial(advance, number=number))
    first, second = tick()
    assert (first.number, second.number) == (1, 2) and first.id != second.id
    assert data(first)["request_counts"] == {"total": 5, "completed": 0, "failed": 0}
    assert data(second)["request_counts"] == {"total": 5, "completed": 1, "failed": 0}


def test_progress_is_not_noted_again_too_soon(database: Database, catalog: Catalog, tick: Tick) -> None:
    number = database.write(partial(begin, events=["batch.progress"]))
    tick()
    database.write(partial(advance, number=number))
    Herald(database, catalog).tick()
    with database.read() as session:
        assert len(session.exec(select(Event)).all()) == 1
    told: dict[str, Any] = {"request_counts": {}}
    assert not database.write(partial(notices.note_progress, number=number, data=told, seconds=10.0))
    assert database.write(partial(notices.note_progress, number=number, data=told, seconds=0.0))


def test_an_endpoint_that_asks_for_it_hears_of_all_batches_of_its_owner(database: Database, tick: Tick) -> None:
    database.write(begin)
    database.write(
        lambda session: webhooks.create(session, "another", name="n", url=URL, event_types=["batch.progress"])
    )
    assert tick() == []
    database.write(lambda session: webhooks.create(session, "local", name="n", url=URL, event_types=["batch.progress"]))
    assert [event.type for event in tick()] == ["batch.progress"]


def test_a_slow_receiver_gets_only_the_newest_progress(database: Database, tick: Tick) -> None:
    number = database.write(partial(begin, events=["batch.progress", "batch.completed"]))
    for _ in range(4):
        tick()
        database.write(fan_out.fan_out)
        database.write(partial(advance, number=number))
    states = [row.state for row in kept(database)]
    assert states == ["superseded"] * 3 + ["pending"]
    waiting = database.write(partial(deliveries.claim, receiver=Receiver("local", "example.com"), lease_seconds=60.0))
    assert waiting is not None and b'"completed":3' in waiting.body
    tick()
    database.write(partial(deliveries.record, id=waiting.id, answer=FAILED, scale=1.0))
    assert [row.state for row in kept(database)] == ["superseded"] * 4  # in flight when it grew old: not tried again
    database.write(fan_out.fan_out)
    database.write(partial(end, number=number))
    database.write(fan_out.fan_out)
    assert [row.state for row in kept(database)] == ["superseded"] * 5 + ["pending"]


def test_a_superseded_progress_that_arrived_is_delivered(database: Database, tick: Tick) -> None:
    number = database.write(partial(begin, events=["batch.progress"]))
    tick()
    database.write(fan_out.fan_out)
    sent = database.write(partial(deliveries.claim, receiver=Receiver("local", "example.com"), lease_seconds=60.0))
    database.write(partial(advance, number=number))
    tick()
    assert sent is not None
    database.write(partial(deliveries.record, id=sent.id, answer=OK, scale=1.0))
    assert [row.state for row in kept(database)] == ["delivered"]


def test_old_progress_is_forgotten(database: Database, tick: Tick) -> None:
    number = database.write(partial(begin, events=["batch.progress"]))
    for place in range(notices.KEPT + 5):
        told = {"place": place}
        database.write(partial(notices.note_progress, number=number, data=told, seconds=0.0))
        database.write(fan_out.fan_out)
    numbers = [event.number for event in tick()]
    assert len(numbers) == notices.KEPT and numbers[-1] == notices.KEPT + 6
    assert len(kept(database)) == notices.KEPT - 1


def test_a_block_is_told_once_with_its_reasons_and_once_when_it_ends(
    database: Database, catalog: Catalog, tick: Tick
) -> None:
    database.write(partial(begin, events=["batch.blocked", "batch.unblocked"]))
    [scope] = catalog.scopes(MODEL)
    for episode in (1, 2):
        database.write(partial(block, catalog=catalog))
        tick()
        blocked = tick()[-1]
        assert (blocked.type, blocked.number) == ("batch.blocked", episode)
        [reason] = data(blocked)["blocked_by"]
        assert (reason["scope"], reason["reason"], reason["detail"]) == (scope, "auth", "the key is refused")
        database.write(partial(scopes.resume, scopes=[scope]))
        tick()
        ended = tick()[-1]
        assert (ended.type, ended.number, ended.data) == ("batch.unblocked", episode, None)
    assert len(tick()) == 4


def test_what_is_over_in_a_moment_is_not_told(database: Database, catalog: Catalog, tick: Tick) -> None:
    database.write(partial(begin, events=["batch.blocked", "batch.unblocked"]))
    database.write(partial(block, catalog=catalog, since=0.0))
    assert tick() == []


def test_two_who_look_at_once_note_it_once(database: Database) -> None:
    number = database.write(partial(begin, events=list(event_types.WHILE_IT_RUNS)))
    for _ in range(2):
        database.write(partial(notices.note_block, number=number, blocks=[{"reason": "auth"}]))
        database.write(partial(notices.note_progress, number=number, data={"a": 1}, seconds=10.0))
    with database.read() as session:
        assert sorted(session.exec(select(Event.type))) == ["batch.blocked", "batch.progress"]


def test_a_batch_at_rest_is_not_told_of(database: Database, tick: Tick) -> None:
    number = database.write(partial(begin, events=["batch.progress"]))
    database.write(partial(end, number=number))
    assert [event.type for event in tick()] == ["batch.completed"]
    assert not database.write(partial(notices.note_progress, number=number, data={}, seconds=0.0))


def end(session: Session, number: int) -> None:
    batch = rows.end(session, session.get_one(Batch, number))
    endings.note_event(session, batch, batch.created_at + 2)


def kept(database: Database) -> list[Delivery]:
    with database.read() as session:
        joined = select(Delivery).join(Event, col(Event.id) == Delivery.event)
        return list(session.exec(joined.order_by(col(Event.type).desc(), col(Event.number))))
