"""Routing: which batches allow fallbacks, how slices came to be served by others, and which scopes are avoided"""

import importlib

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

before = importlib.import_module("worker.migrations.versions.0002_views_results_and_usage")


def results(dialect: str) -> str:
    """With the reason for a fallback, and without deleted batches as since 0010."""
    view: str = before.results(dialect)
    view = view.replace(" AS deployment,\n", f" AS deployment,\n {before.answer('a.fallback')} AS fallback,\n")
    return view.replace("\nGROUP BY", "\nWHERE b.deleted_at IS NULL\nGROUP BY")


def upgrade() -> None:
    op.add_column("batch", sa.Column("allow_fallback", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("slice", sa.Column("trail", sa.String(), nullable=False, server_default=""))
    op.add_column("attempt", sa.Column("fallback", sa.String(), nullable=True))
    op.add_column("scope", sa.Column("cools_until", sa.Float(), nullable=True))
    op.execute("DROP VIEW results")
    op.execute(results(op.get_bind().dialect.name))
