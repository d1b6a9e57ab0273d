"""Deletion: hidden at once, erased in portions, and what was used and paid stays."""

import dataclasses
from typing import Any

import pytest
from sqlmodel import SQLModel

from tests import grist, rows
from tests.grist import Worker
from worker import clock, erasure, ids, output_files, tables
from worker.database import Database
from worker.states import BatchStatus, Kind, Outcome
from worker.store import batches, deletion, erasing, listing, usage
from worker.tables import BATCH, SLICE

BEGAN = 1_700_000_000_000_000_000
KEPT = {"batch", "usage_history", "alembic_version"}


def finished(worker: Worker, lines: int = 3, **columns: Any) -> int:
    """A batch at rest: its first line failed, was tried again in vain, and the others succeeded; one line is bad."""
    number = grist.add(worker.database, lines, bad=1, **columns)
    claim = worker.begin(grist.slices_of(worker.database, number)[0].id)
    first, *others = claim.jobs
    worker.record(grist.end(claim, first, Outcome.RETRY, attempt=BEGAN, cost=None))
    worker.record(grist.end(claim, first, Outcome.FAILED, attempt=BEGAN + 1, cost=0))
    for place in range(0, len(others), 200):
        worker.record(*(grist.end(claim, job, attempt=BEGAN + 2) for job in others[place : place + 200]))
    worker.release(claim)
    grist.settle(worker.database, number)
    assert grist.batch(worker.database, number).status == "completed"
    return number


def delete(database: Database, number: int) -> None:
    id = grist.batch(database, number).id
    assert database.write(lambda session: deletion.delete(session, "local", id))


def erase(database: Database) -> None:
    while erasure.erase_deleted(database):
        continue


def left(database: Database) -> dict[str, int]:
    """Rows by table, but those of the input files."""
    counts = {table.name: len(grist.all_of(database, table)) for table in SQLModel.metadata.sorted_tables}
    return {name: count for name, count in counts.items() if count and name not in KEPT | {"file"}}


def used(database: Database) -> list[list[Any]]:
    with database.read() as session:
        found = [usage.sums(session, "local", by) for by in ("day", "model", "provider", "batch")]
        view = session.connection().exec_driver_sql("SELECT * FROM usage ORDER BY day, batch, model").all()
    return [[tuple(row) for row in sums] for sums in (*found, view)]


def test_a_deleted_batch_is_there_for_nobody(database: Database, worker: Worker) -> None:
    number = finished(worker, identity="run")
    batch = grist.batch(database, number)
    delete(database, number)
    with database.read() as session:
        assert batches.get(session, "local", batch.id) is None
        assert batches.page(session, "local", limit=10) == []
        assert batches.find_by_identity(session, "local", "run") is None
        assert output_files.find(session, "local", output_files.file_id(batch, "output")) is None
        listed = listing.page(session, "local", limit=10, newest_first=True, purpose="batch_output", after=None)
        assert listed == []
        assert session.connection().exec_driver_sql("SELECT * FROM results").all() == []
    assert not database.write(lambda session: deletion.delete(session, "local", batch.id))


def test_nothing_of_it_stays_but_what_it_used_and_cost(database: Database, worker: Worker) -> None:
    number = finished(worker)
    finished(worker)
    of_two = left(database)
    assert {"job", "attempt", "result", "slice", "tally", "event"} <= of_two.keys()
    before = used(database)
    delete(database, number)
    assert used(database) == before
    erase(database)
    assert used(database) == before
    assert left(database) == {name: count // 2 for name, count in of_two.items()}
    assert len(grist.all_of(database, tables.USAGE_HISTORY)) == 1


def test_each_portion_keeps_the_sums(database: Database, worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it is killed."""
    monkeypatch.setattr(erasing, "ROWS", 2)
    number = finished(worker, 9)
    before, portions = used(database), 0
    delete(database, number)
    while database.write(lambda session: erasing.erase_some(session, number)):
        portions += 1
        assert used(database) == before
    assert portions > 10 and left(database) == {}


def test_a_portion_ends_before_it_has_too_many_bytes(
    database: Database, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = finished(worker)
    monkeypatch.setattr(erasing, "BYTES", 1)
    erased = [database.write(lambda session: erasing.erase_results(session, number)) for _ in range(5)]
    assert erased == [1, 1, 1, 1, 0]


def test_a_batch_that_has_not_ended_cannot_be_deleted(database: Database) -> None:
    batch = grist.batch(database, grist.add(database, 1))
    with pytest.raises(deletion.NotAtRest, match="in_progress"):
        database.write(lambda session: deletion.delete(session, "local", batch.id))
    assert not database.write(lambda session: deletion.delete(session, "somebody", batch.id))


def test_the_input_goes_only_if_asked(database: Database, worker: Worker) -> None:
    kept, gone = (grist.batch(database, finished(worker)) for _ in range(2))
    delete(database, kept.number or 0)
    database.write(lambda session: deletion.delete(session, "local", gone.id, with_input=True))
    hidden = grist.all_of(database, tables.FILE, tables.FILE.c.deleted_at.is_not(None))
    assert [row.id for row in hidden] == [gone.input_file_id]


def test_calls_that_outlive_their_batch_are_waited_for_and_counted(database: Database, worker: Worker) -> None:
    number = grist.add(database, 2)
    claim = worker.begin(grist.slices_of(database, number)[0].id)
    first, second = claim.jobs
    grist.change(database, number, status="cancelled", cancelled_at=1.0, open=0)
    delete(database, number)
    erase(database)
    assert left(database)["job"] == 2, "its slice is leased"
    worker.record(grist.end(claim, first))
    grist.change_slice(database, claim.slice, state="done")
    grist.change(database, number, due_at=1.0)
    erase(database)
    assert left(database) == {}
    worker.record(grist.end(claim, second))
    assert not worker.release(claim)
    assert worker.start(claim).count == 0
    assert [row[5] for row in used(database)[0]] == [2]
    grist.change(database, number, due_at=1.0)
    erase(database)
    assert [row[5] for row in used(database)[0]] == [2] and left(database) == {}


def test_the_row_goes_a_day_later_and_its_number_is_not_used_again(database: Database, worker: Worker) -> None:
    number = finished(worker)
    delete(database, number)
    erase(database)
    grist.change(database, number, deleted_at=clock.now() - erasing.LATE_SECONDS - 1, due_at=1.0)
    erase(database)
    assert [row.number for row in grist.all_of(database, BATCH)] == [number]
    later = grist.add(database, 1)
    grist.change(database, number, due_at=1.0)
    erase(database)
    assert [row.number for row in grist.all_of(database, BATCH)] == [later]
    claim = worker.claim(grist.all_of(database, SLICE)[0].id)
    worker.record(grist.end(_of(claim, number), claim.jobs[0], attempt=BEGAN))
    assert [row[5] for row in used(database)[0]] == [4], "long after, nobody knows whose it was"


def test_held_jobs_are_summed_up_together(database: Database, worker: Worker) -> None:
    for _ in range(2):
        delete(database, finished(worker, kind=Kind.HELD, api_key="key_1"))
    before = used(database)[1]
    erase(database)
    [row] = grist.all_of(database, tables.USAGE_HISTORY)
    assert (row.batch, row.api_key, row.attempts) == ("held", "key_1", 8)
    assert used(database)[1] == before


def test_its_hidden_output_files_and_deliveries_go_too(database: Database, worker: Worker) -> None:
    number = finished(worker)
    batch = grist.batch(database, number)
    hidden = output_files.file_id(batch, "output")
    assert database.write(lambda session: output_files.delete(session, "local", hidden))
    [event] = grist.all_of(database, tables.EVENT)
    delivery = tables.Delivery(id=ids.new_delivery(), owner="local", event=event.id, endpoint="we", created_at=1.0)
    tried = tables.DeliveryAttempt(delivery=delivery.id, number=1, owner="local", at=1.0, seconds=0.1)
    database.write(lambda session: session.add_all([delivery, tried]))
    delete(database, number)
    erase(database)
    assert left(database) == {}
    assert [row.id for row in grist.all_of(database, tables.FILE)] == [batch.input_file_id]


def test_a_failed_batch_goes_too(database: Database) -> None:
    batch = database.write(lambda session: rows.end(session, rows.add_batch(session), status=BatchStatus.FAILED))
    assert batch.number is not None
    error = tables.LineError(batch=batch.number, line=1, owner="local", code="bad", message="bad")
    database.write(lambda session: session.add(error))
    delete(database, batch.number)
    erase(database)
    assert left(database) == {}


def _of(claim: Any, number: int) -> Any:
    """The same claim, as if of another batch."""
    return dataclasses.replace(claim, batch=number)
