"""Brings a database to the schema of this code, and refuses one that newer code has already changed."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine

from worker.database import Database

FOLDER = Path(__file__).parent


class SchemaTooNew(Exception):
    """The database was migrated by a newer Gristmill: install that version again, or restore a copy made before."""


def upgrade(database: Database) -> None:
    """Migrate in one transaction, one process at a time. Raises SchemaTooNew."""
    engine = create_engine(database.url)
    try:
        with engine.connect() as connection:
            _lock(connection)
            refuse_newer(connection)
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
    finally:
        engine.dispose()


def refuse_newer(connection: Connection) -> None:
    known = {revision.revision for revision in ScriptDirectory.from_config(_config()).walk_revisions()}
    present = set(MigrationContext.configure(connection).get_current_heads())
    if unknown := present - known:
        raise SchemaTooNew(f"the database has schema {', '.join(sorted(unknown))}, which this version does not know")


def head() -> str:
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    assert revision is not None
    return revision


def _lock(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(6712038441)")
    else:
        connection.exec_driver_sql("PRAGMA busy_timeout=60000")
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    return config
