from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from sqlalchemy import text
from sqlmodel import Session, select

from tests import rows
from tests.polling import until
from worker.database import Database
from worker.states import BatchStatus, Kind
from worker.store import endings, fan_out, webhooks
from worker.tables import Batch, Delivery

URL = "https://example.com/hook"
ENDED = ["batch.completed", "batch.failed"]


def finish(
    session: Session,
    *,
    owner: str = "local",
    url: str | None = None,
    events: list[str] | None = None,
    kind: Kind = Kind.BATCH,
    status: BatchStatus = BatchStatus.COMPLETED,
) -> Batch:
    batch = rows.add_batch(session, owner=owner)
    batch.kind = kind
    if url is not None:
        batch.webhook_endpoint, batch.webhook_events = webhooks.for_batches(session, owner, url).id, events or ENDED
    rows.end(session, batch, status)
    endings.note_event(session, batch, batch.created_at + 2)
    return batch


def told(database: Database) -> list[str]:
    """The endpoints of all deliveries."""
    database.write(fan_out.fan_out)
    with database.read() as session:
        return sorted(session.exec(select(Delivery.endpoint)))


def endpoint(session: Session, *, owner: str = "local") -> str:
    return webhooks.create(session, owner, name="n", url=URL, event_types=["batch.completed"]).id


def test_a_batch_tells_the_endpoint_that_it_names_and_the_owners_others(database: Database) -> None:
    mine = database.write(endpoint)
    database.write(partial(endpoint, owner="another"))
    batch = database.write(partial(finish, url=URL))
    assert batch.webhook_endpoint is not None
    assert told(database) == sorted([mine, batch.webhook_endpoint])


def test_it_is_told_only_what_the_batch_asked_for(database: Database) -> None:
    first = database.write(partial(finish, url=URL))
    second = database.write(partial(finish, url=URL, events=["batch.failed"]))
    assert first.webhook_endpoint == second.webhook_endpoint
    database.write(partial(finish, url=None))
    database.write(partial(finish, url="https://example.com/other", status=BatchStatus.CANCELLED))
    assert told(database) == [first.webhook_endpoint]


def test_owners_do_not_share_the_endpoints_of_their_batches(database: Database) -> None:
    made = [database.write(partial(finish, owner=owner, url=URL)).webhook_endpoint for owner in ("local", "another")]
    assert len(set(made)) == 2
    secrets = {
        tuple(database.write(partial(webhooks.secrets, endpoint=row, now=0.0)))
        for row in database.write(lambda session: [webhooks.for_batches(session, o, URL) for o in ("local", "another")])
    }
    assert len(secrets) == 2


def test_nobody_is_told_of_held_jobs(database: Database) -> None:
    database.write(endpoint)
    database.write(partial(finish, url=URL, kind=Kind.HELD))
    assert told(database) == []


def test_a_batch_whose_endpoint_was_deleted_tells_the_others(database: Database) -> None:
    mine = database.write(endpoint)
    batch = database.write(partial(finish, url=URL))
    database.write(lambda session: webhooks.remove(session, "local", str(batch.webhook_endpoint)))
    assert told(database) == [mine]


def test_endpoints_of_batches_go_when_their_batches_are_gone(database: Database) -> None:
    mine, batch = database.write(endpoint), database.write(partial(finish, url=URL))
    assert database.write(webhooks.remove_unused) == 0

    def forget(session: Session) -> None:
        session.get_one(Batch, batch.number).webhook_endpoint = None

    database.write(forget)
    assert database.write(webhooks.remove_unused) == 1
    with database.read() as session:
        assert [row.id for row in webhooks.page(session, "local", limit=9)] == [mine]


def test_an_endpoint_that_is_about_to_get_a_batch_stays(database: Database) -> None:
    old = database.write(partial(finish, url=URL))
    database.write(lambda session: setattr(session.get_one(Batch, old.number), "webhook_endpoint", None))

    def create(session: Session) -> Future[int]:
        row = webhooks.for_batches(session, "local", URL)
        removal = pool.submit(database.write, webhooks.remove_unused)
        until(lambda: database.sqlite or removal.done() or is_waiting(database))
        rows.add_batch(session).webhook_endpoint = row.id
        return removal

    with ThreadPoolExecutor(1) as pool:
        assert database.write(create).result() == 0


def is_waiting(database: Database) -> bool:
    """Whether a transaction waits for another one's lock."""
    with database.read() as session:
        waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return bool(session.connection().execute(waiting).scalar_one())
