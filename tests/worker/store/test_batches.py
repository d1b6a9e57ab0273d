import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import sqlalchemy
from sqlmodel import Session, col, select

from tests import grist, rows
from worker import clock, states
from worker.database import Database
from worker.states import BatchStatus
from worker.store import batches, dispatching, endings, files
from worker.store.batches import AtRest, Expired, InputFileMissing, WrongPurpose
from worker.tables import Batch, Tally


def set_status(database: Database, batch: Batch, status: BatchStatus) -> None:
    change = sqlalchemy.update(Batch).where(col(Batch.id) == batch.id).values(status=status)
    database.write(lambda session: session.connection().execute(change))


def reread(database: Database, batch: Batch) -> Batch:
    with database.read() as session:
        found = batches.get(session, batch.owner, batch.id)
    assert found is not None
    return found


def test_a_new_batch_is_validating_and_due(database: Database) -> None:
    batch = database.write(rows.add_batch)
    assert batch.status == BatchStatus.VALIDATING
    assert batch.due_at == batch.created_at
    assert batch.expires_at == batch.created_at + 60
    assert abs(batch.created_at - database.now()) < 60


def test_a_missing_or_foreign_or_wrong_file_makes_no_batch(database: Database) -> None:
    mine, foreign = database.write(rows.add_file), database.write(lambda session: rows.add_file(session, owner="other"))
    vision = database.write(lambda session: rows.add_file(session, purpose="vision"))
    with pytest.raises(InputFileMissing):
        database.write(lambda session: batches.create(session, rows.new_batch(foreign)))
    with pytest.raises(WrongPurpose):
        database.write(lambda session: batches.create(session, rows.new_batch(vision)))
    assert database.write(lambda session: batches.create(session, rows.new_batch(mine)))[1]


def test_a_resent_create_returns_the_first_batch(database: Database) -> None:
    file = database.write(rows.add_file)
    new = rows.new_batch(file)
    first, _ = database.write(lambda session: batches.create(session, new))
    again, is_new = database.write(lambda session: batches.create(session, new, resent=True))
    assert (again.id, is_new) == (first.id, False)
    other, is_new = database.write(
        lambda session: batches.create(session, rows.new_batch(file, fingerprint="other"), resent=True)
    )
    assert other.id != first.id and is_new
    plain, is_new = database.write(lambda session: batches.create(session, new))
    assert plain.id != first.id and is_new


def test_a_resent_create_finds_its_batch_after_the_file_was_deleted(database: Database) -> None:
    file = database.write(rows.add_file)
    first, _ = database.write(lambda session: batches.create(session, rows.new_batch(file)))
    database.write(lambda session: files.delete(session, "local", file.id))
    again, _ = database.write(lambda session: batches.create(session, rows.new_batch(file), resent=True))
    assert again.id == first.id


def test_a_create_of_eleven_minutes_ago_is_forgotten(database: Database) -> None:
    file = database.write(rows.add_file)
    first, _ = database.write(lambda session: batches.create(session, rows.new_batch(file)))
    past = sqlalchemy.update(Batch).values(created_at=clock.now() - 660)
    database.write(lambda session: session.connection().execute(past))
    again, is_new = database.write(lambda session: batches.create(session, rows.new_batch(file), resent=True))
    assert again.id != first.id and is_new


def test_owners_see_their_own_batches_only(database: Database) -> None:
    mine = database.write(rows.add_batch)
    foreign = database.write(lambda session: rows.add_batch(session, owner="other"))
    with database.read() as session:
        assert batches.get(session, "local", foreign.id) is None
        assert [batch.id for batch in batches.page(session, "local", limit=10)] == [mine.id]
    changes: list[Callable[..., Batch | None]] = [
        batches.request_cancel,
        batches.pause,
        batches.resume,
    ]
    for change in changes:
        assert database.write(partial(change, owner="local", id=foreign.id)) is None


def test_pages_go_from_the_newest_to_the_oldest(database: Database) -> None:
    made = [database.write(rows.add_batch) for _ in range(5)]
    with database.read() as session:
        first = batches.page(session, "local", limit=2)
        second = batches.page(session, "local", limit=9, after=first[-1].number)
    assert [batch.id for batch in (*first, *second)] == [batch.id for batch in reversed(made)]


def test_pages_go_back_to_the_newest(database: Database) -> None:
    rows_made = [database.write(rows.add_batch).id for _ in range(4)]
    with database.read() as session:
        oldest = batches.page(session, "local", limit=9)[-1]
        before = batches.page(session, "local", limit=2, before=oldest.number)
    assert [batch.id for batch in before] == [rows_made[2], rows_made[1]]


def test_the_newest_batch_of_an_identity_is_found(database: Database) -> None:
    database.write(lambda session: rows.add_batch(session, identity="a"))
    newest = database.write(lambda session: rows.add_batch(session, identity="a"))
    database.write(lambda session: rows.add_batch(session, identity="b"))
    with database.read() as session:
        found = batches.find_by_identity(session, "local", "a")
        assert found is not None and found.id == newest.id
        assert batches.find_by_identity(session, "local", "c") is None


@pytest.mark.parametrize("status", sorted(set(BatchStatus) - states.AT_REST - {BatchStatus.CANCELLING}))
def test_cancel_stops_whatever_is_not_at_rest(database: Database, status: BatchStatus) -> None:
    batch = database.write(rows.add_batch)
    set_status(database, batch, status)
    answer = database.write(lambda session: batches.request_cancel(session, "local", batch.id))
    again = database.write(lambda session: batches.request_cancel(session, "local", batch.id))
    assert answer is not None and again is not None
    assert answer.status == again.status == BatchStatus.CANCELLING
    assert answer.stop == "cancel" and answer.cancelling_at == again.cancelling_at == answer.due_at == answer.stop_at


@pytest.mark.parametrize("status", sorted(states.AT_REST))
@pytest.mark.parametrize("change", [batches.request_cancel, batches.pause, batches.resume])
def test_nothing_moves_a_batch_at_rest(
    database: Database, status: BatchStatus, change: Callable[[Session, str, str], Batch | None]
) -> None:
    batch = database.write(rows.add_batch)
    set_status(database, batch, status)
    with pytest.raises(AtRest) as raised:
        database.write(lambda session: change(session, "local", batch.id))
    assert raised.value.status == status
    assert reread(database, batch).status == status


def test_resume_lets_go_of_every_pause_of_the_batch(database: Database) -> None:
    batch = database.write(rows.add_batch)
    database.write(lambda session: batches.pause(session, "local", batch.id))
    assert batch.number is not None
    number = batch.number

    def block(session: Session) -> None:
        session.add(Tally(batch=number, route="openai/a", owner="local", paused_at=1.0, alike=20, alike_code="x"))
        session.connection().execute(sqlalchemy.update(Batch).values(capped_at=1.0, due_at=None, due_tries=7))

    database.write(block)
    assert reread(database, batch).paused_at is not None
    after = database.write(lambda session: batches.resume(session, "local", batch.id, max_cost=5, line_limit=None))
    assert after is not None
    assert (after.paused_at, after.capped_at, after.max_cost, after.due_tries) == (None, None, 5, 0)
    assert after.due_at is not None
    with database.read() as session:
        assert session.exec(select(Tally)).one().paused_at is None


def test_resume_leaves_limits_alone_that_it_does_not_name(database: Database) -> None:
    batch = database.write(rows.add_batch)
    database.write(lambda session: batches.resume(session, "local", batch.id, max_cost=5, allow_unknown_cost=True))
    database.write(lambda session: batches.resume(session, "local", batch.id, line_limit=3))
    after = reread(database, batch)
    assert (after.max_cost, after.allow_unknown_cost, after.line_limit) == (5, True, 3)


def test_pausing_twice_keeps_the_first_moment(database: Database) -> None:
    batch = database.write(rows.add_batch)
    first = database.write(lambda session: batches.pause(session, "local", batch.id))
    second = database.write(lambda session: batches.pause(session, "local", batch.id))
    assert first is not None and second is not None
    assert first.paused_at == second.paused_at is not None


def test_an_extended_batch_does_not_end_when_it_would_have(database: Database) -> None:
    number = grist.add(database, 2, window_seconds=1.0, expires_at=1.0)
    id = grist.batch(database, number).id
    database.write(lambda session: batches.extend(session, "local", id, "3d", 259_200.0))
    assert not database.write(lambda session: endings.expire(session, number))
    after = grist.batch(database, number)
    assert after.expires_at is not None and after.due_at is not None and after.stop is None
    assert after.expires_at - after.due_at == after.window_seconds == 259_200
    database.write(lambda session: batches.extend(session, "local", id, "none", None))
    assert grist.batch(database, number).expires_at is None
    assert database.write(lambda session: batches.extend(session, "other", id, "3d", 1.0)) is None


def test_what_has_expired_or_ends_is_not_extended(database: Database) -> None:
    number = grist.add(database, 2, expires_at=1.0)
    id = grist.batch(database, number).id
    assert database.write(lambda session: endings.expire(session, number))
    with pytest.raises(Expired):
        database.write(lambda session: batches.extend(session, "local", id, "3d", 1.0))
    grist.settle(database, number)
    with pytest.raises(Expired):
        database.write(lambda session: batches.extend(session, "local", id, "3d", 1.0))
    cancelled = grist.batch(database, grist.add(database, 2)).id
    database.write(lambda session: batches.request_cancel(session, "local", cancelled))
    with pytest.raises(AtRest):
        database.write(lambda session: batches.extend(session, "local", cancelled, "3d", 1.0))


def test_another_priority_changes_who_is_served_first(database: Database) -> None:
    first, second = grist.add(database, 1), grist.add(database, 1)
    id = grist.batch(database, second).id
    assert database.write(lambda session: batches.prioritize(session, "other", id, 1)) is None
    assert order(database) == [first, second]
    database.write(lambda session: batches.prioritize(session, "local", id, 1))
    assert order(database) == [second, first]


def order(database: Database) -> list[int]:
    with database.read() as session:
        return [row.number for row in dispatching.running(session)]


def test_a_deletion_cannot_slip_in_between_the_check_and_the_batch(database: Database) -> None:
    file = database.write(rows.add_file)
    created, deleting = threading.Event(), threading.Event()

    def create(session: Session) -> Batch:
        batch, _ = batches.create(session, rows.new_batch(file))
        created.set()
        assert deleting.wait(10)
        return batch

    def delete() -> bool:
        deleting.set()
        return database.write(lambda session: files.delete(session, "local", file.id))

    with ThreadPoolExecutor() as pool:
        making = pool.submit(database.write, create)
        assert created.wait(10)
        assert pool.submit(delete).result(10)
        assert making.result(10).status == BatchStatus.VALIDATING
    assert database.write(files.erase_unneeded) == []


def test_of_two_equal_creates_at_once_the_resent_one_finds_the_other(database: Database) -> None:
    file = database.write(rows.add_file)
    with ThreadPoolExecutor() as pool:
        makings = [
            pool.submit(database.write, lambda session: batches.create(session, rows.new_batch(file), resent=True))
            for _ in range(8)
        ]
        made = [making.result(20) for making in makings]
    assert len({batch.id for batch, _ in made}) == 1
    assert sum(is_new for _, is_new in made) == 1
