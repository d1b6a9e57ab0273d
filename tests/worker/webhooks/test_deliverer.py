"""Deliveries to a real receiver that misbehaves on request."""

from collections.abc import Callable, Iterator

import openai
import pytest
from sqlmodel import select

from tests.fakes import receiver as fake
from tests.polling import until
from tests.worker.webhooks.conftest import Start, endpoint, finish
from worker.database import Database
from worker.states import BatchStatus
from worker.store import deliveries, fan_out
from worker.store.deliveries import Receiver
from worker.tables import Delivery, DeliveryAttempt, WebhookEndpoint

SDK = openai.OpenAI(api_key="any", base_url="http://127.0.0.1:1")


@pytest.fixture
def receiver() -> Iterator[fake.Receiver]:
    receiver = fake.Receiver()
    yield receiver
    receiver.down()


def stored(database: Database) -> Delivery | None:
    with database.read() as session:
        return session.exec(select(Delivery)).first()


def ended(database: Database, state: str) -> Callable[[], Delivery | None]:
    def found() -> Delivery | None:
        row = stored(database)
        return row if row is not None and row.state == state else None

    return found


def test_an_event_arrives_once_and_the_sdk_verifies_it(
    database: Database, start: Start, receiver: fake.Receiver
) -> None:
    made, batch = endpoint(database, receiver.url), finish(database)
    start()
    until(ended(database, "delivered"))
    [(headers, body)] = receiver.got
    event = SDK.webhooks.unwrap(body, headers, secret=made.secret)
    assert isinstance(event, openai.types.webhooks.BatchCompletedWebhookEvent)
    assert event.data.id == batch.id and headers["content-type"] == "application/json"


def test_nobody_hears_of_anothers_batch_or_of_what_he_did_not_ask_for(
    database: Database, start: Start, receiver: fake.Receiver
) -> None:
    endpoint(database, receiver.url)
    finish(database, owner="another")
    finish(database, status=BatchStatus.CANCELLED)
    mine = finish(database)
    start()
    until(ended(database, "delivered"))
    assert [body for _, body in receiver.got if mine.id.encode() not in body] == []


def test_a_receiver_that_was_down_gets_everything_with_constant_ids(
    database: Database, start: Start, receiver: fake.Receiver
) -> None:
    endpoint(database, receiver.url)
    receiver.down()
    for _ in range(5):
        finish(database)
    start(scale=0.001)
    # tries after 0, 5 and 305 scaled seconds fail; ten minutes are over before the next one after 2,105
    until(lambda: (row := stored(database)) is not None and row.sent >= 3)
    with database.read() as session:
        expected = {row.id for row in session.exec(select(Delivery))}
    receiver.up()
    until(lambda: set(receiver.ids) == expected and len(expected) == 5, 30)


def test_a_redirect_is_not_followed_and_is_a_failure(database: Database, start: Start, receiver: fake.Receiver) -> None:
    other = fake.Receiver()
    receiver.answers = [(302, {"location": other.url}, b""), (200, {}, b"")]
    endpoint(database, receiver.url)
    finish(database)
    start()
    until(ended(database, "delivered"))
    other.down()
    assert other.got == [] and len(receiver.got) == 2 and len(set(receiver.ids)) == 1


def test_410_disables_the_endpoint(database: Database, start: Start, receiver: fake.Receiver) -> None:
    receiver.answers = [(410, {}, b"")]
    made = endpoint(database, receiver.url)
    finish(database)
    start()
    until(ended(database, "failed"))
    with database.read() as session:
        row = session.get(WebhookEndpoint, made.id)
    assert row is not None and row.disabled_at is not None and len(receiver.got) == 1


def test_after_the_whole_schedule_it_has_failed_and_every_try_is_visible(
    database: Database, start: Start, receiver: fake.Receiver
) -> None:
    receiver.answers = [(500, {}, b"x" * 100_000)]
    endpoint(database, receiver.url)
    finish(database)
    start(scale=0.000001)
    row = until(ended(database, "failed"))
    with database.read() as session:
        tries = list(session.exec(select(DeliveryAttempt)))
    assert row.tries == len(tries) == len(deliveries.SCHEDULE)
    assert {(attempt.status, len(attempt.answer)) for attempt in tries} == {(500, 20_000)}


def test_a_claim_that_was_never_recorded_is_sent_again_with_the_same_id(
    database: Database, start: Start, receiver: fake.Receiver
) -> None:
    made = endpoint(database, receiver.url)
    finish(database)
    database.write(fan_out.fan_out)
    there = Receiver(made.owner, made.receiver)
    lost = database.write(lambda session: deliveries.claim(session, there, 0.3))
    assert lost is not None and database.write(lambda session: deliveries.claim(session, there, 0.3)) is None
    start()
    until(ended(database, "delivered"))
    assert receiver.ids == [lost.id]


def test_private_receivers_are_refused_unless_allowed(
    database: Database, start: Start, receiver: fake.Receiver
) -> None:
    endpoint(database, receiver.url)
    finish(database)
    start(private=False, scale=0.000001)
    row = until(ended(database, "failed"))
    assert receiver.got == [] and "GRISTMILL_WEBHOOK_ALLOW_PRIVATE" in str(row.last_error)
