"""Deletion of batches: hidden at once, erased in portions, and what they used and cost stays in usage_history"""

import importlib

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

before = importlib.import_module("worker.migrations.versions.0002_views_results_and_usage")

TOKENS = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")


def known_or_null(column: str) -> str:
    """NULL if no call said it and one of them may have used some."""
    return f"CASE WHEN SUM(told) = 0 AND SUM(billed) > 0 THEN NULL ELSE SUM({column}) END AS {column}"


def usage(dialect: str) -> str:
    """The calls that are there, and the sums of those that were deleted."""
    return f"""CREATE VIEW usage AS SELECT
 day, owner, api_key, batch, model, provider,
 SUM(attempts) AS attempts,
 SUM(succeeded) AS succeeded,
 {", ".join(known_or_null(column) for column in TOKENS)},
 CASE WHEN SUM(cost) = 0 AND SUM(unknown_cost) > 0 THEN NULL
  ELSE CAST(SUM(cost) AS DOUBLE PRECISION) / 1000000000000.0 END AS cost_usd,
 SUM(unknown_cost) AS unknown_cost
FROM (
 SELECT {before.day(dialect)} AS day, b.owner AS owner, b.api_key AS api_key, b.id AS batch,
  {before.model(dialect)} AS model, {before.provider(dialect)} AS provider,
  COUNT(*) AS attempts,
  COUNT(CASE WHEN a.outcome = 'succeeded' THEN 1 END) AS succeeded,
  COUNT(a.input_tokens) AS told,
  COUNT(CASE WHEN a.cost IS NULL OR a.cost <> 0 THEN 1 END) AS billed,
  {", ".join(f"COALESCE(SUM(a.{column}), 0) AS {column}" for column in TOKENS)},
  COALESCE(SUM(a.cost), 0) AS cost,
  COUNT(*) - COUNT(a.cost) AS unknown_cost
 FROM batch b
 JOIN attempt a ON a.job BETWEEN (b.number << 32) AND (b.number << 32) + 4294967295
 GROUP BY b.id, b.number, 1, 5, 6
 UNION ALL
 SELECT day, owner, NULLIF(api_key, '') AS api_key, batch, model, provider, attempts, succeeded, told, billed,
  {", ".join(TOKENS)}, cost, unknown_cost
 FROM usage_history
) AS used
GROUP BY batch, day, owner, api_key, model, provider"""


def upgrade() -> None:
    op.add_column("batch", sa.Column("deleted_at", sa.Float(), nullable=True))
    op.add_column("batch", sa.Column("outputs_erased_at", sa.Float(), nullable=True))
    op.create_table(
        "usage_history",
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("day", sa.String(), nullable=False),
        sa.Column("batch", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("api_key", sa.String(), nullable=False),
        *(
            sa.Column(name, sa.BigInteger(), nullable=False)
            for name in ("attempts", "succeeded", "told", "billed", *TOKENS, "cost", "unknown_cost")
        ),
        sa.PrimaryKeyConstraint("owner", "day", "batch", "model", "provider", "api_key"),
    )
    dialect = op.get_bind().dialect.name
    op.execute("DROP VIEW usage")
    op.execute(usage(dialect))
    op.execute("DROP VIEW results")
    op.execute(before.results(dialect).replace("\nGROUP BY", "\nWHERE b.deleted_at IS NULL\nGROUP BY"))
