"""Brings a database to the schema of this code, and refuses one that newer code has already changed."""

from pathlib import Path

from sqlalchemy import Connection, create_engine, inspect, text

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
            present = current(connection)
            if present is not None and present not in revisions():
                raise SchemaTooNew(f"the database has schema {present}, which this version does not know")
            if present != revisions()[-1]:
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


def _migrate(connection: Connection) -> None:
    # Imported only when there is something to do: it costs as much CPU as all the rest of a start.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _lock(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(6712038441)")
    else:
        connection.exec_driver_sql("PRAGMA busy_timeout=60000")
        connection.exec_driver_sql("BEGIN IMMEDIATE")
