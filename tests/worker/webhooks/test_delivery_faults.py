"""Deliverers that die, give way to each other or meet receivers that misbehave, on both databases."""

import signal
import socket
import subprocess
import sys
import threading
from functools import partial

import pytest
from sqlmodel import col, select, update

from tests.fakes.raw_receiver import RawReceiver
from tests.fakes.receiver import Receiver
from tests.polling import until
from tests.worker.webhooks.conftest import Start, endpoint, finish
from worker.database import Database
from worker.store import deliveries, fan_out, webhooks
from worker.store.deliveries import SCHEDULE
from worker.tables import Delivery
from worker.tables.webhooks import DeliveryAttempt, WebhookEndpoint
from worker.webhooks.sender import Answer

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


def answer(status: int, wait: float | None = None) -> Answer:
    return Answer(status=status, error=None, body=b"", wait=wait, seconds=0.0)


def rows_of(database: Database) -> list[Delivery]:
    with database.read() as session:
        return list(session.exec(select(Delivery).order_by(col(Delivery.created_at))))


def all_delivered(database: Database, count: int) -> bool:
    return [row.state for row in rows_of(database)] == ["delivered"] * count


def try_one(database: Database, made: WebhookEndpoint, outcome: Answer) -> None:
    there = deliveries.Receiver(made.owner, made.receiver)
    message = database.write(partial(deliveries.claim, receiver=there, lease_seconds=60.0))
    assert message is not None
    database.write(partial(deliveries.record, id=message.id, answer=outcome, scale=1.0))


def waiting(database: Database) -> bool:
    """Whether anything may be sent now."""
    with database.read() as session:
        return deliveries.due_receivers(session, [], 10) != []


@pytest.mark.parametrize(
    ("status", "wait", "rests"),
    [
        (429, None, True),
        (502, None, True),
        (504, None, True),
        (503, 600.0, True),
        (500, None, False),
        (302, None, False),
    ],
)
def test_an_answer_may_throttle_the_whole_endpoint(
    database: Database, status: int, wait: float | None, rests: bool
) -> None:
    made = endpoint(database, "http://127.0.0.1:1/")
    for _ in range(2):
        finish(database)
    database.write(fan_out.fan_out)
    try_one(database, made, answer(status, wait))
    assert waiting(database) is not rests
    if rests:
        rested = update(WebhookEndpoint).values(rests_until=0.0)
        database.write(lambda session: session.connection().execute(rested))
        assert waiting(database)
    tried = next(row for row in rows_of(database) if row.tries == 1)
    assert tried.due_at is not None
    now = database.now()
    assert tried.due_at - now > (wait - 60.0 if wait else SCHEDULE[1] * 0.8 - 60.0)


def test_a_dead_receiver_does_not_delay_the_others(database: Database, start: Start) -> None:
    good = Receiver()
    with RawReceiver(lambda connection: dead.hang(connection)) as dead:
        endpoint(database, dead.url)
        for number in range(40):
            endpoint(database, f"{dead.url}/{number}")
        finish(database)
        until(lambda: database.write(fan_out.fan_out) == 0)
        endpoint(database, good.url)
        finish(database)
        start(timeout=60.0)
        until(lambda: good.ids)
    good.down()


def test_kill_9_between_sending_and_storing_sends_it_again_with_the_same_id(
    database: Database, database_url: str, start: Start
) -> None:
    receiver = Receiver()
    endpoint(database, receiver.url)
    finish(database)
    child = subprocess.Popen([sys.executable, "-m", "tests.fakes.mortal_deliverer", database_url])
    assert child.wait(30) == -signal.SIGKILL
    assert len(receiver.ids) == 1
    start()
    until(lambda: all_delivered(database, 1))
    receiver.down()
    assert len(receiver.ids) == 2 and len(set(receiver.ids)) == 1
    with database.read() as session:
        assert len(session.exec(select(DeliveryAttempt)).all()) == 1


def test_an_endpoint_may_be_deleted_in_the_middle_of_a_delivery(database: Database, start: Start) -> None:
    release = threading.Event()

    def hold(connection: socket.socket) -> None:
        release.wait()
        connection.sendall(OK)

    other = Receiver()
    with RawReceiver(hold) as slow:
        made = endpoint(database, slow.url)
        finish(database)
        start(timeout=30.0)
        until(lambda: slow.heard)
        assert database.write(lambda session: webhooks.remove(session, "local", made.id))
        release.set()
        endpoint(database, other.url)
        finish(database)
        until(lambda: all_delivered(database, 1))
    other.down()
    with database.read() as session:
        assert {row.delivery for row in session.exec(select(DeliveryAttempt))} == {row.id for row in rows_of(database)}


def test_when_leadership_moves_what_is_on_its_way_is_not_sent_by_the_next_leader(
    database: Database, start: Start
) -> None:
    release, leader = threading.Event(), "first"

    def hold(connection: socket.socket) -> None:
        release.wait()
        connection.sendall(OK)

    other = Receiver()
    with RawReceiver(hold) as slow:
        endpoint(database, slow.url)
        finish(database)
        start(leads=lambda: leader == "first", timeout=30.0)
        until(lambda: slow.heard)
        start(leads=lambda: leader == "second", timeout=30.0)
        leader = "second"
        endpoint(database, other.url)
        for _ in range(3):
            other.got.clear()
            finish(database)
            until(lambda: other.got)
        first = rows_of(database)[0]
        assert sum(first.id.encode() in request for request in slow.heard) == 1
        release.set()
        until(lambda: all_delivered(database, 7))
        assert sum(first.id.encode() in request for request in slow.heard) == 1
    other.down()
