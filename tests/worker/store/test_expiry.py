"""What was asked to expire: hidden at its time, erased afterwards, counted for ever. Time is moved in SQL."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests import grist, rows
from tests.grist import Worker
from worker import clock, erasure, flat_rows, output_files, tables
from worker.blobs import Blobs
from worker.database import Database
from worker.output_files import OutputFile
from worker.states import Outcome
from worker.store import deletion, erasing, expiry, files, generations, listing
from worker.tables import Batch


def ended(worker: Worker, **columns: Any) -> Batch:
    """Two of three lines have succeeded."""
    number = grist.add(worker.database, 3, **columns)
    claim = worker.begin(grist.slices_of(worker.database, number)[0].id)
    good, better, bad = claim.jobs
    worker.record(grist.end(claim, good), grist.end(claim, better), grist.end(claim, bad, Outcome.FAILED))
    assert grist.settle(worker.database, number) == "completed"
    return grist.batch(worker.database, number)


def find(database: Database, batch: Batch) -> OutputFile | None:
    with database.read() as session:
        return output_files.find(session, "local", output_files.file_id(batch, "output"))


def let_expire(database: Database, batch: Batch) -> None:
    grist.change(database, batch.number or 0, completed_at=clock.now() - 3_601)


def test_nothing_expires_that_was_not_asked_to(database: Database, worker: Worker) -> None:
    batch = ended(worker)
    grist.change(database, batch.number or 0, completed_at=1.0)
    file = find(database, batch)
    assert file is not None and file.entry.expires_at is None
    assert not erasure.erase_expired(database)


def test_output_files_say_when_they_expire_and_are_hidden_then(database: Database, worker: Worker) -> None:
    batch = ended(worker, output_expires_after=3_600)
    file = find(database, batch)
    assert file is not None and batch.completed_at is not None
    assert file.entry.expires_at == batch.completed_at + 3_600
    assert not erasure.erase_expired(database)
    let_expire(database, batch)
    assert find(database, batch) is None
    with database.read() as session:
        assert listing.page(session, "local", limit=9, newest_first=True, purpose="batch_output", after=None) == []
    with pytest.raises(generations.OutputsExpired):
        generations.retry(database, "local", batch.id, lambda route: 10)


def test_their_bytes_go_and_the_counts_stay(database: Database, worker: Worker) -> None:
    kept, batch = ended(worker), ended(worker, output_expires_after=3_600)
    let_expire(database, batch)
    while erasure.erase_expired(database):
        continue
    assert {row.batch for row in grist.all_of(database, tables.RESULT)} == {kept.number}
    after = grist.batch(database, batch.number or 0)
    assert (after.completed, after.failed, after.cost) == (batch.completed, batch.failed, batch.cost)
    assert after.outputs_erased_at is not None
    assert len(grist.all_of(database, tables.JOB)) == 6


def test_a_reader_of_a_file_that_goes_is_told(
    database: Database, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output_files, "ROWS", 1)
    for go in ("deleted", "expired"):
        batch = ended(worker, output_expires_after=3_600)
        file = find(database, batch)
        assert file is not None
        chunks = output_files.in_line_order(database, file)
        assert next(chunks)
        if go == "expired":
            let_expire(database, batch)
        else:
            database.write(partial(deletion.delete, owner="local", id=batch.id))
        while erasure.erase_deleted(database) or erasure.erase_expired(database):
            continue
        with pytest.raises(expiry.Gone):
            list(chunks)


def test_a_reader_of_a_table_that_goes_is_told(
    database: Database, worker: Worker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(flat_rows, "LINES", 1)
    batch = ended(worker)
    table = flat_rows.stream(database, Blobs(tmp_path), batch)
    assert next(table)
    database.write(lambda session: deletion.delete(session, "local", batch.id))
    database.write(lambda session: erasing.erase_some(session, batch.number or 0))
    with pytest.raises(expiry.Gone):
        list(table)


def test_an_upload_is_hidden_at_its_time_and_its_bytes_go(database: Database, tmp_path: Path) -> None:
    store = Blobs(tmp_path)
    kept, gone = database.write(rows.add_file), database.write(rows.add_file)
    for file in (kept, gone):
        with store.create(file.id) as upload:
            upload.finish()
    change = tables.FILE.update().where(tables.FILE.c.id == gone.id).values(expires_at=clock.now() - 1)
    database.write(lambda session: session.connection().execute(change))
    with database.read() as session:
        assert files.get(session, "local", gone.id) is None
        assert files.get(session, "local", kept.id) is not None
    assert erasure.erase(database, store) == 1
    assert list(store.names()) == [kept.id]
