import os
from pathlib import Path

from tests import rows
from worker import erasure, ids
from worker.blobs import Blobs
from worker.database import Database
from worker.store import files


def put(store: Blobs, name: str) -> None:
    with store.create(name) as upload:
        upload.write(b"x")
        upload.finish()


def test_the_bytes_of_a_deleted_file_go(database: Database, tmp_path: Path) -> None:
    store = Blobs(tmp_path / "files")
    kept, gone = database.write(rows.add_file), database.write(rows.add_file)
    put(store, kept.id)
    put(store, gone.id)
    database.write(lambda session: files.delete(session, "local", gone.id))
    assert erasure.erase(database, store) == 1
    assert list(store.names()) == [kept.id]
    assert erasure.erase(database, store) == 0


def test_a_sweep_takes_old_bytes_that_no_row_knows(database: Database, tmp_path: Path) -> None:
    store = Blobs(tmp_path / "files")
    known, stray, fresh = database.write(rows.add_file).id, ids.new_file(), ids.new_file()
    for name in (known, stray, fresh):
        put(store, name)
    for name in (known, stray):
        os.utime(next(store.folder.glob(f"??/{name}")), (1.0, 1.0))
    assert erasure.sweep(database, store) == 1
    assert set(store.names()) == {known, fresh}
