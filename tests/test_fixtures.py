"""The servers of the other tests are what they say."""

import os
from pathlib import Path

import pytest
import redis
import sqlalchemy

from worker.database import Database


@pytest.mark.parametrize("turn", [1, 2])
def test_every_test_has_a_fresh_migrated_database(database_url: str, turn: int):
    database = Database(database_url)
    try:
        with database.read() as session:
            assert session.connection().execute(sqlalchemy.text("SELECT count(*) FROM job")).scalar_one() == 0
        database.write(lambda session: session.connection().execute(sqlalchemy.text("DELETE FROM job")))
    finally:
        database.close()


def test_an_empty_database_has_no_tables(empty_database_url: str):
    engine = sqlalchemy.create_engine(empty_database_url)
    assert sqlalchemy.inspect(engine).get_table_names() == []
    engine.dispose()


@pytest.mark.parametrize("turn", [1, 2])
def test_every_test_has_an_empty_valkey(valkey: str, turn: int):
    with redis.Redis.from_url(valkey) as client:
        assert client.dbsize() == 0
        client.set("left", "behind")


def test_home_is_where_the_environment_says(home: Path):
    assert os.environ["GRISTMILL_HOME"] == str(home)
    assert home.is_dir()
