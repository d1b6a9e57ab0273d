import sqlalchemy
from sqlmodel import Session, col

from tests import rows
from worker import clock, ids
from worker.database import Database
from worker.states import BatchStatus
from worker.store import batches, files
from worker.tables import Batch, File


def test_a_file_is_its_owners_alone(database: Database) -> None:
    file = database.write(rows.add_file)
    with database.read() as session:
        found = files.get(session, "local", file.id)
        assert found is not None and found.bytes == 10
        assert files.get(session, "other", file.id) is None
    assert not database.write(lambda session: files.delete(session, "other", file.id))


def test_what_cannot_be_an_id_never_reaches_sql(database: Database) -> None:
    with database.read() as session:
        for name in ("", "file-", "file-\x00", "file-" + "a" * 23, "../../etc/passwd", "file-" + "A" * 24, "\ud800"):
            assert files.get(session, "local", name) is None


def test_a_deleted_file_is_hidden_at_once_and_its_bytes_may_go(database: Database) -> None:
    file = database.write(rows.add_file)
    assert database.write(lambda session: files.delete(session, "local", file.id))
    assert not database.write(lambda session: files.delete(session, "local", file.id))
    with database.read() as session:
        assert files.get(session, "local", file.id) is None
    assert database.write(files.erase_unneeded) == [file.id]


def test_erasing_is_confirmed_once_the_bytes_are_gone(database: Database) -> None:
    file = database.write(rows.add_file)
    database.write(lambda session: files.delete(session, "local", file.id))
    assert database.write(files.erase_unneeded) == database.write(files.erase_unneeded) == [file.id]
    database.write(lambda session: files.erased(session, [file.id]))
    assert database.write(files.erase_unneeded) == []


def test_bytes_stay_while_a_batch_needs_them(database: Database) -> None:
    batch = database.write(rows.add_batch)
    database.write(lambda session: files.delete(session, "local", batch.input_file_id))
    assert database.write(files.erase_unneeded) == []
    database.write(lambda session: rows.end(session, session.merge(batch), BatchStatus.FAILED))
    assert database.write(files.erase_unneeded) == [batch.input_file_id]


def test_an_expired_file_is_as_good_as_deleted(database: Database) -> None:
    file = database.write(rows.add_file)
    past = sqlalchemy.update(File).where(col(File.id) == file.id).values(expires_at=clock.now() - 1)
    database.write(lambda session: session.connection().execute(past))
    with database.read() as session:
        assert files.get(session, "local", file.id) is None
    assert database.write(files.erase_unneeded) == [file.id]


def test_expiry_counts_from_the_databases_now(database: Database) -> None:
    file = database.write(
        lambda session: files.add(
            session,
            id=ids.new_file(),
            owner="local",
            purpose="batch",
            filename="x",
            size=0,
            sha256="",
            expires_after=3_600,
        )
    )
    assert file.expires_at == file.created_at + 3_600


def test_only_names_without_a_row_are_unknown(database: Database) -> None:
    file, stray = database.write(rows.add_file), ids.new_file()
    with database.read() as session:
        assert files.unknown(session, [file.id, stray]) == [stray]


def test_a_batch_cannot_be_made_of_a_file_that_is_being_deleted(database: Database) -> None:
    file = database.write(rows.add_file)
    database.write(lambda session: files.delete(session, "local", file.id))

    def create(session: Session) -> Batch | None:
        try:
            return batches.create(session, rows.new_batch(file))[0]
        except batches.InputFileMissing:
            return None

    assert database.write(create) is None
