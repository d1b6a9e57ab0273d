from sqlmodel import Session

from tests import rows
from worker import output_files
from worker.database import Database
from worker.store import listing
from worker.store.listing import Entry
from worker.tables import Batch


def everything(database: Database, **options: object) -> list[Entry]:
    asked = {"limit": 100, "newest_first": True, "purpose": None, "after": None, **options}
    with database.read() as session:
        return listing.page(session, "local", **asked)  # type: ignore[arg-type]


def finished(session: Session) -> Batch:
    batch = rows.begin(session, rows.add_batch(session))
    rows.add_result(session, batch, 1)
    rows.add_result(session, batch, 2, kind="error")
    return rows.end(session, batch)


def test_output_files_stand_among_the_uploaded_ones(database: Database) -> None:
    batch = database.write(finished)
    found = {entry.id: entry for entry in everything(database)}
    assert set(found) == {
        batch.input_file_id,
        output_files.file_id(batch, "output"),
        output_files.file_id(batch, "error"),
    }
    with database.read() as session:
        for entry in found.values():
            if entry.purpose == "batch_output":
                looked_up = output_files.find(session, "local", entry.id)
                assert looked_up is not None and looked_up.entry == entry


def test_a_batch_that_runs_has_no_output_file_yet(database: Database) -> None:
    def running(session: Session) -> None:
        rows.add_result(session, rows.begin(session, rows.add_batch(session)), 1)

    database.write(running)
    assert [entry.purpose for entry in everything(database)] == ["batch"]


def test_pages_join_without_gap_or_overlap_both_ways(database: Database) -> None:
    for _ in range(4):
        database.write(finished)
    for newest_first in (True, False):
        whole = everything(database, newest_first=newest_first)
        assert len(whole) == 12
        paged: list[Entry] = []
        while page := everything(database, newest_first=newest_first, limit=5, after=paged[-1] if paged else None):
            paged += page
        assert paged == whole


def test_the_purpose_filters(database: Database) -> None:
    database.write(finished)
    assert len(everything(database, purpose="batch")) == 1
    assert len(everything(database, purpose="batch_output")) == 2
    assert everything(database, purpose="vision") == []


def test_a_deleted_output_file_is_listed_no_more(database: Database) -> None:
    batch = database.write(finished)
    id = output_files.file_id(batch, "output")
    assert database.write(lambda session: output_files.delete(session, "local", id))
    assert not database.write(lambda session: output_files.delete(session, "local", id))
    assert id not in {entry.id for entry in everything(database)}


def test_owners_see_their_own_files_only(database: Database) -> None:
    database.write(lambda session: rows.add_file(session, owner="other"))
    assert everything(database) == []
