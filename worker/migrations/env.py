"""Alembic's entry: always online, on the connection that worker.migrations.upgrade opened."""

from alembic import context
from sqlmodel import SQLModel

import worker.tables  # noqa: F401  (registers the tables)

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    render_as_batch=True,
    compare_type=True,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
