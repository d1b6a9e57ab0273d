from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import alembic.op
import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlmodel import SQLModel

from worker import migrations, tables
from worker.database import Database
from worker.migrations import SchemaTooNew


@pytest.fixture
def empty(empty_database_url: str) -> Iterator[Database]:
    database = Database(empty_database_url)
    yield database
    database.close()


def names(database: Database) -> set[str]:
    with database.read() as session:
        return set(sqlalchemy.inspect(session.connection()).get_table_names())


def execute(database: Database, statement: str) -> None:
    database.write(lambda session: session.connection().exec_driver_sql(statement))


def test_the_migrated_schema_is_the_one_of_the_code(empty: Database) -> None:
    migrations.upgrade(empty)
    with empty.read() as session:
        context = MigrationContext.configure(session.connection(), opts={"compare_type": True})
        assert compare_metadata(context, SQLModel.metadata) == []
        assert migrations.current(session.connection()) == migrations.revisions()[-1]


def test_every_row_has_an_owner_and_every_result_a_generation(empty: Database) -> None:
    assert all("owner" in table.c for table in SQLModel.metadata.sorted_tables)
    assert tables.RESULT.c.generation.primary_key


def test_upgrading_again_does_nothing(empty: Database) -> None:
    migrations.upgrade(empty)
    execute(empty, "INSERT INTO leadership (name, owner, holder, until) VALUES ('a', 'b', 'c', 1)")
    migrations.upgrade(empty)
    with empty.read() as session:
        assert session.connection().exec_driver_sql("SELECT count(*) FROM leadership").scalar_one() == 1


def test_a_newer_schema_is_refused_and_left_alone(empty: Database) -> None:
    migrations.upgrade(empty)
    execute(empty, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaTooNew, match="9999"):
        migrations.upgrade(empty)
    with empty.read() as session:
        assert migrations.current(session.connection()) == "9999"


def test_a_crash_in_the_middle_leaves_nothing_and_the_next_start_succeeds(
    empty: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, made = alembic.op.create_table, []

    def create_some(name: str, *columns: Any, **more: Any) -> Any:
        if name == "process":
            raise MemoryError("killed here")
        made.append(name)
        return create(name, *columns, **more)

    with monkeypatch.context() as patch:
        patch.setattr(alembic.op, "create_table", create_some)
        with pytest.raises(MemoryError):
            migrations.upgrade(empty)
    assert len(made) > 3 and names(empty) == set()
    migrations.upgrade(empty)
    assert {table.name for table in SQLModel.metadata.sorted_tables} <= names(empty)


def test_many_processes_may_start_at_once(empty: Database) -> None:
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: migrations.upgrade(empty), range(4)))
    assert "batch" in names(empty)
