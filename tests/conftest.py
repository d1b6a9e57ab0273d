"""Real servers for the tests: SQLite, Postgres and Valkey, each started once and given out fresh."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
import redis

from tests import postgres as postgres_server
from worker import migrations
from worker.database import Database
from worker.embedded import home as embedded_home
from worker.embedded.valkey import Valkey

TEMPLATE = "mill_template"
_numbers = count(1)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the settings or keys of the person who runs it."""
    for name in [
        name for name in os.environ if name.startswith("GRISTMILL_") or name.endswith(("_API_KEY", "_BASE_URL"))
    ]:
        monkeypatch.delenv(name)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A prepared GRISTMILL_HOME."""
    monkeypatch.setenv("GRISTMILL_HOME", str(tmp_path / "home"))
    return embedded_home.prepare(tmp_path / "home").path


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="gm-vk-"))
    server = Valkey(embedded_home.prepare(folder))
    try:
        yield server.start().url
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def valkey(valkey_server: str) -> str:
    """The URL of an empty Valkey."""
    with redis.Redis.from_url(valkey_server) as client:
        client.flushall()
    return valkey_server


@pytest.fixture(scope="session")
def postgres() -> Iterator[postgres_server.Postgres]:
    with postgres_server.running() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without tables, on SQLite and on Postgres."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/empty.db"
        return
    yield from _fresh(request.getfixturevalue("postgres"), "template0")


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database with all tables and no rows, on SQLite and on Postgres."""
    template = request.getfixturevalue(f"{request.param}_template")
    if request.param == "sqlite":
        shutil.copy(template, tmp_path / "gristmill.db")
        yield f"sqlite:///{tmp_path}/gristmill.db"
        return
    yield from _fresh(request.getfixturevalue("postgres"), template)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "gristmill.db"
    _migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgres_template(postgres: postgres_server.Postgres) -> str:
    _migrate(postgres.create(TEMPLATE))
    return TEMPLATE


def _fresh(server: postgres_server.Postgres, template: str) -> Iterator[str]:
    name = f"mill_{next(_numbers)}"
    yield server.create(name, template=template)
    server.drop(name)


def _migrate(url: str) -> None:
    database = Database(url)
    try:
        migrations.upgrade(database)
    finally:
        database.close()
