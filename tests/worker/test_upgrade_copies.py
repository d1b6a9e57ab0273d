import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from worker import migrations
from worker.database import Database
from worker.migrations import CopyFailed, copies


@pytest.fixture
def old(tmp_path: Path) -> Iterator[Database]:
    """A database of the first schema, with a row in it."""
    database = Database(f"sqlite:///{tmp_path}/gristmill.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(migrations, "HEAD", "0001")
        migrations.upgrade(database)
    database.write(
        lambda session: session.connection().exec_driver_sql("INSERT INTO leadership VALUES ('a', 'b', 'c', 1)")
    )
    yield database
    database.close()


def one(path: Path, statement: str) -> object:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchone()[0]


def test_the_copy_is_what_was_before(old: Database, tmp_path: Path) -> None:
    migrations.upgrade(old)
    copy = tmp_path / f"gristmill.db.before-{migrations.revisions()[-1]}"
    assert one(copy, "SELECT version_num FROM alembic_version") == "0001"
    assert one(copy, "SELECT name FROM leadership") == "a"
    assert copy.stat().st_mode & 0o777 == 0o600
    assert one(tmp_path / "gristmill.db", "SELECT version_num FROM alembic_version") == migrations.revisions()[-1]
    migrations.upgrade(old)
    assert list(tmp_path.glob("*before*")) == [copy]


def test_a_new_database_needs_no_copy(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/gristmill.db")
    migrations.upgrade(database)
    database.close()
    assert list(tmp_path.glob("*before*")) == []


def test_the_last_two_are_kept(old: Database, tmp_path: Path) -> None:
    for revision in ("0002", "0003", "0004"):
        copies.make(tmp_path / "gristmill.db", revision)
    assert sorted(path.name[-4:] for path in tmp_path.glob("*before*")) == ["0003", "0004"]


def test_without_a_copy_nothing_is_migrated(old: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(database: Path, revision: str) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(copies, "make", full)
    with pytest.raises(CopyFailed, match="No space left"):
        migrations.upgrade(old)
    assert one(tmp_path / "gristmill.db", "SELECT version_num FROM alembic_version") == "0001"
