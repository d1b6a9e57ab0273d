from collections.abc import Iterator

import pytest

from worker.database import Database


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """All tables, no rows; on SQLite and on Postgres."""
    database = Database(database_url)
    yield database
    database.close()
