"""Retention: what is older than the configuration keeps, of every owner and kind."""

from typing import Any

import pytest

from tests import grist, rows
from worker import clock, erasure, ids, tables
from worker.database import Database
from worker.retention import Policy
from worker.states import BatchStatus, Kind
from worker.store import old
from worker.tables import BATCH, FILE

DAY = 86_400.0


def ended(database: Database, days: float, **columns: Any) -> int:
    """The number of a batch that ended so many days ago."""
    batch = database.write(lambda session: rows.end(session, rows.add_batch(session)))
    grist.change(
        database, batch.number or 0, completed_at=clock.now() - days * DAY, total=3, output_bytes=50, **columns
    )
    return batch.number or 0


def visible(database: Database) -> set[int]:
    return {row.number for row in grist.all_of(database, BATCH, BATCH.c.deleted_at.is_(None))}


def shown_files(database: Database) -> set[str]:
    return {row.id for row in grist.all_of(database, FILE, FILE.c.deleted_at.is_(None))}


def test_nothing_goes_unless_it_is_configured(database: Database) -> None:
    ended(database, 10_000)
    assert not erasure.retire(database, Policy())
    assert len(visible(database)) == 1


def test_batches_and_held_jobs_go_at_their_own_age(database: Database) -> None:
    kept = {ended(database, 89), ended(database, 6, kind=Kind.HELD)}
    ended(database, 91)
    ended(database, 91, kind=Kind.MESSAGES, owner="another")
    ended(database, 8, kind=Kind.HELD)
    running = database.write(lambda session: rows.begin(session, rows.add_batch(session)))
    grist.change(database, running.number or 0, created_at=1.0)
    while erasure.retire(database, Policy(batches=90 * DAY, held=7 * DAY)):
        continue
    assert visible(database) == kept | {running.number}


def test_batches_that_were_retried_lately_do_not_keep_those_behind_them(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(old, "LOOKED_AT", 2)
    kept = {ended(database, 1) for _ in range(3)}
    ended(database, 91)
    while erasure.retire(database, Policy(batches=90 * DAY)):
        continue
    assert visible(database) == kept


def test_uploads_go_unless_a_batch_needs_them(database: Database) -> None:
    new, needed, done, unused = (database.write(rows.add_file) for _ in range(4))
    for file, status in ((needed, BatchStatus.IN_PROGRESS), (done, BatchStatus.COMPLETED)):
        batch = database.write(lambda session: rows.add_batch(session))
        grist.change(database, batch.number or 0, input_file_id=file.id, status=status)
    aged = FILE.update().where(FILE.c.id.in_([needed.id, done.id, unused.id])).values(created_at=1.0)
    database.write(lambda session: session.connection().execute(aged))
    with database.read() as session:
        assert old.count_files(session, DAY) == old.Found(count=2, bytes=20)
    while erasure.retire(database, Policy(input_files=DAY)):
        continue
    assert {new.id, needed.id} <= shown_files(database)
    assert shown_files(database).isdisjoint({done.id, unused.id})


def test_what_would_go_is_counted(database: Database) -> None:
    ended(database, 5)
    ended(database, 5)
    with database.read() as session:
        assert old.count_batches(session, old.SUBMITTED, 4 * DAY) == old.Found(count=2, lines=6, bytes=100)
        assert old.count_batches(session, old.SUBMITTED, 6 * DAY) == old.Found(count=0, bytes=0)


def test_ended_deliveries_and_erased_uploads_are_forgotten_after_a_month(database: Database) -> None:
    """But never a row that hides an output file, or the input of a batch that is there."""

    def delivery(created_at: Any, due_at: float | None) -> str:
        row = tables.Delivery(
            id=ids.new_delivery(), owner="local", event=ids.new_event(), endpoint="we", created_at=1.0
        )
        tried = tables.DeliveryAttempt(delivery=row.id, number=1, owner="local", at=1.0, seconds=0.1)
        database.write(lambda session: session.add_all([row, tried]))
        change = tables.DELIVERY.update().where(tables.DELIVERY.c.id == row.id)
        database.write(
            lambda session: session.connection().execute(change.values(created_at=created_at, due_at=due_at))
        )
        return row.id

    kept = {delivery(1.0, 5.0), delivery(clock.now(), None)}
    delivery(1.0, None)
    forgotten, named = database.write(rows.add_file), database.write(rows.add_batch)
    erased = (
        FILE.update().where(FILE.c.id.in_([forgotten.id, named.input_file_id])).values(deleted_at=1.0, erased_at=1.0)
    )
    database.write(lambda session: session.connection().execute(erased))
    hidden = f"file-{'a' * 24}o1"
    database.write(
        lambda session: session.add(
            tables.File(
                id=hidden, owner="local", purpose="x", filename="x", bytes=1, sha256="", created_at=1.0, erased_at=1.0
            )
        )
    )
    while erasure.forget(database):
        continue
    assert {row.id for row in grist.all_of(database, tables.DELIVERY)} == kept
    assert {row.delivery for row in grist.all_of(database, tables.DELIVERY_ATTEMPT)} == kept
    assert {row.id for row in grist.all_of(database, FILE)} == {named.input_file_id, hidden}
