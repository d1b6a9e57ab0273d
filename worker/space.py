"""Gives the room of erased rows back to the disk. Without it the database uses that room again, and does not grow."""

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy

from worker.database import Database

INCREMENTAL = 2
"""SQLite's auto_vacuum of databases that we created: room goes back in portions, while others work."""
PAGES = 1_000
"""In one portion."""
TABLES = ("attempt", "result", "job", "slice")


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """Bytes on disk before and after."""

    before: int
    after: int

    @property
    def freed(self) -> int:
        return max(0, self.before - self.after)


def needs_quiet(database: Database) -> bool:
    """Whether nobody else may use the database meanwhile: an SQLite one from before portions were possible."""
    if not database.sqlite:
        return False
    with closing(_open(database)) as connection:
        return int(connection.execute("PRAGMA auto_vacuum").fetchone()[0]) != INCREMENTAL


def give_back(database: Database) -> Room:
    """On Postgres only what is free at the ends of its tables goes; the rest is used again."""
    before = size(database)
    if database.sqlite:
        _shrink(database)
    else:
        _vacuum(database)
    return Room(before=before, after=size(database))


def size(database: Database) -> int:
    """Bytes of the database on disk."""
    if database.sqlite:
        path = _path(database)
        return sum(part.stat().st_size for part in (path, path.with_name(f"{path.name}-wal")) if part.exists())
    with database.read() as session:
        asked = sqlalchemy.text("SELECT pg_database_size(current_database())")
        return int(session.connection().execute(asked).scalar_one())


def _shrink(database: Database) -> None:
    with closing(_open(database)) as connection:
        if needs_quiet(database):
            connection.execute(f"PRAGMA auto_vacuum={INCREMENTAL}")
            connection.execute("VACUUM")
        while connection.execute("PRAGMA freelist_count").fetchone()[0]:
            connection.executescript(f"PRAGMA incremental_vacuum({PAGES})")  # ``execute`` would free a single page
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _vacuum(database: Database) -> None:
    engine = sqlalchemy.create_engine(database.url, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"VACUUM (ANALYZE) {', '.join(TABLES)}")
    finally:
        engine.dispose()


def _open(database: Database) -> sqlite3.Connection:
    return sqlite3.connect(_path(database), isolation_level=None, timeout=10.0)


def _path(database: Database) -> Path:
    return Path(os.path.abspath(database.url.database or ""))
