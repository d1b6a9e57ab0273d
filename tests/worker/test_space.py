import os
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from tests import rows
from worker import space, tables
from worker.database import Database


def filled(database: Database) -> None:
    """Ten MB that were there and are not any more."""
    batch = database.write(rows.add_batch)
    for line in range(10):
        database.write(partial(rows.add_result, batch=batch, line=line, text=os.urandom(1_000_000)))
    database.write(lambda session: session.connection().execute(tables.RESULT.delete()))


def test_room_is_given_back(database: Database) -> None:
    filled(database)
    room = space.give_back(database)
    assert room.after == space.size(database)
    assert room.freed > 5_000_000
    assert not space.needs_quiet(database)


def test_room_goes_back_while_others_read_and_write(database: Database) -> None:
    filled(database)
    with database.read() as session:
        session.connection().exec_driver_sql("SELECT count(*) FROM batch").all()
        if database.sqlite:
            space.give_back(database)
    database.write(rows.add_batch)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_an_older_database_becomes_one_that_can(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE batch (line BLOB)")
        connection.execute("INSERT INTO batch VALUES (?)", (bytes(3_000_000),))
        connection.execute("DELETE FROM batch")
        connection.commit()
    old = Database(f"sqlite:///{path}")
    try:
        assert space.needs_quiet(old)
        assert space.give_back(old).freed > 2_000_000
        assert not space.needs_quiet(old)
    finally:
        old.close()
