import pytest

from tests.grist import Worker
from worker.database import Database


@pytest.fixture
def worker(database: Database) -> Worker:
    return Worker(database)
