from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import grist, rows
from tests.api.cli.conftest import Gristmill
from worker import clock, migrations, tables
from worker.database import Database
from worker.embedded import home as embedded_home

DAY = 86_400.0


@pytest.fixture
def database(home: Path) -> Iterator[Database]:
    """That of the home, with a batch that ended 40 days ago, one of yesterday, and one that runs."""
    database = Database(f"sqlite:///{home}/gristmill.db")
    migrations.upgrade(database)
    for days in (40, 1):
        batch = database.write(lambda session: rows.end(session, rows.add_batch(session)))
        grist.change(
            database, batch.number or 0, completed_at=clock.now() - days * DAY, total=5, output_bytes=2_000_000
        )
    database.write(lambda session: rows.begin(session, rows.add_batch(session)))
    database.write(lambda session: session.connection().execute(tables.FILE.update().values(created_at=1.0)))
    yield database
    database.close()


def visible(database: Database) -> list[int]:
    return [row.number for row in grist.all_of(database, tables.BATCH, tables.BATCH.c.deleted_at.is_(None))]


def test_it_says_what_would_go_and_leaves_it(gristmill: Gristmill, database: Database) -> None:
    done = gristmill("prune", "--dry-run")
    assert (done.status, done.out) == (
        0,
        "older than 30d: 1 batch (5 lines, 2.0 MB of answers), 2 input files (0.0 MB)\n",
    )
    assert visible(database) == [1, 2, 3]


def test_what_is_old_goes_and_the_room_comes_back(gristmill: Gristmill, database: Database) -> None:
    done = gristmill("prune", "--yes")
    assert done.status == 0, done.err
    assert "freed " in done.out
    assert visible(database) == [2, 3]
    assert len(grist.all_of(database, tables.FILE, tables.FILE.c.erased_at.is_(None))) == 1


@pytest.mark.parametrize(("flag", "batches", "files"), [("--batches", 2, 3), ("--files", 3, 1)])
def test_only_one_of_both(gristmill: Gristmill, database: Database, flag: str, batches: int, files: int) -> None:
    assert gristmill("prune", flag, "--yes").status == 0
    assert len(visible(database)) == batches
    assert len(grist.all_of(database, tables.FILE, tables.FILE.c.deleted_at.is_(None))) == files


def test_nobody_is_asked_without_a_terminal(gristmill: Gristmill, database: Database) -> None:
    done = gristmill("prune")
    assert done.status == 2 and "--yes" in done.err
    assert len(visible(database)) == 3


def test_an_age_without_meaning_is_refused(gristmill: Gristmill, database: Database) -> None:
    assert gristmill("prune", "--older-than", "soon").status == 2


def test_without_a_database_there_is_nothing_to_prune(gristmill: Gristmill, home: Path) -> None:
    done = gristmill("prune", "--yes")
    assert done.status == 2 and "no database" in done.err


def test_a_database_from_before_needs_a_server_that_is_stopped(
    gristmill: Gristmill, database: Database, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.space.needs_quiet", lambda _: True)
    with embedded_home.Home(path=home).lock():
        done = gristmill("prune", "--yes")
    assert "stop the server" in done.out
    assert visible(database) == [2, 3]
