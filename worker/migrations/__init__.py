"""Brings a database to the schema of this code, and refuses one that newer code has already changed.

MigrationError
 ├ SchemaTooNew
 └ CopyFailed
"""

import sqlite3
from pathlib import Path

from sqlalchemy import Connection, create_engine, inspect, text

from worker.database import Database
from worker.migrations import copies

FOLDER = Path(__file__).parent
HEAD = "head"


class MigrationError(Exception):
    """The database stays as it was."""


class SchemaTooNew(MigrationError):
    """The database was migrated by a newer Gristmill: install that version again, or restore a copy made before."""


class CopyFailed(MigrationError):
    """The SQLite database could not be copied before its migration."""


def upgrade(database: Database) -> None:
    """Migrate in one transaction, one process at a time; SQLite is copied before. Raises MigrationError."""
    engine = create_engine(database.url)
    try:
        with engine.connect() as connection:
            _lock(connection)
            present = current(connection)
            if present is not None and present not in revisions():
                raise SchemaTooNew(f"the database has schema {present}, which this version does not know")
            if present != revisions()[-1]:
                if present is not None and database.sqlite:
                    _copy(database)
                _migrate(connection)
            connection.commit()
    finally:
        engine.dispose()


def revisions() -> list[str]:
    """The schemas that this code knows, oldest first: each is a file whose name begins with its number."""
    return sorted(path.name.partition("_")[0] for path in (FOLDER / "versions").glob("[0-9]*_*.py"))


def current(connection: Connection) -> str | None:
    """The schema of the database; None if it is empty."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def _copy(database: Database) -> None:
    path = Path(database.url.database or "")
    try:
        copies.make(path, revisions()[-1])
    except (OSError, sqlite3.Error) as error:
        raise CopyFailed(
            f"{path} must be migrated and could not be copied before: {error}. Make room for a copy beside it."
        ) from error


def _migrate(connection: Connection) -> None:
    # Imported only when there is something to do: it costs as much CPU as all the rest of a start.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    config.attributes["connection"] = connection
    command.upgrade(config, HEAD)


def _lock(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(6712038441)")
    else:
        connection.exec_driver_sql("PRAGMA auto_vacuum=INCREMENTAL")  # of a new database: `prune` gives room back
        connection.exec_driver_sql("PRAGMA busy_timeout=60000")
        connection.exec_driver_sql("BEGIN IMMEDIATE")
