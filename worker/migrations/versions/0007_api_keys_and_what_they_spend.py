"""API keys, what they spend, and the view usage by key"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

COST = """CASE WHEN COALESCE(SUM(a.cost), 0) = 0 AND COUNT(a.id) > COUNT(a.cost) THEN NULL
 ELSE CAST(COALESCE(SUM(a.cost), 0) AS DOUBLE PRECISION) / 1000000000000.0 END"""


def tokens(column: str) -> str:
    """What is known of a sum; NULL if no call said it and one of them may have used some."""
    return f"""CASE WHEN COUNT(a.{column}) = 0 AND COUNT(CASE WHEN a.cost IS NULL OR a.cost <> 0 THEN a.id END) > 0
  THEN NULL ELSE COALESCE(SUM(a.{column}), 0) END AS {column}"""


def provider(dialect: str) -> str:
    if dialect == "postgresql":
        return "split_part(a.deployment, '/', 1)"
    return "substr(a.deployment, 1, instr(a.deployment, '/') - 1)"


def model(dialect: str) -> str:
    """The deployment without its account."""
    if dialect == "postgresql":
        return "split_part(a.deployment, '@', 1)"
    return "substr(a.deployment, 1, instr(a.deployment || '@', '@') - 1)"


def day(dialect: str) -> str:
    if dialect == "postgresql":
        return "to_char(to_timestamp(a.id / 1000000000) AT TIME ZONE 'UTC', 'YYYY-MM-DD')"
    return "strftime('%Y-%m-%d', a.id / 1000000000, 'unixepoch')"


def usage(dialect: str) -> str:
    return f"""CREATE VIEW usage AS SELECT
 {day(dialect)} AS day,
 b.owner AS owner,
 b.api_key AS api_key,
 b.id AS batch,
 {model(dialect)} AS model,
 {provider(dialect)} AS provider,
 COUNT(*) AS attempts,
 COUNT(CASE WHEN a.outcome = 'succeeded' THEN 1 END) AS succeeded,
 {tokens("input_tokens")},
 {tokens("cached_tokens")},
 {tokens("output_tokens")},
 {tokens("reasoning_tokens")},
 {COST} AS cost_usd,
 COUNT(*) - COUNT(a.cost) AS unknown_cost
FROM batch b
JOIN attempt a ON a.job BETWEEN (b.number << 32) AND (b.number << 32) + 4294967295
GROUP BY b.id, b.number, 1, 5, 6"""


def upgrade() -> None:
    op.create_table(
        "api_key",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("hint", sa.String(), nullable=False),
        sa.Column("models", sa.JSON(), nullable=True),
        sa.Column("budget_day", sa.BigInteger(), nullable=True),
        sa.Column("budget_month", sa.BigInteger(), nullable=True),
        sa.Column("budget_batch", sa.BigInteger(), nullable=True),
        sa.Column("over_budget", sa.String(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=True),
        sa.Column("last_used_at", sa.Float(), nullable=True),
        sa.Column("revoked_at", sa.Float(), nullable=True),
        sa.Column("reserved", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("hash"),
    )
    op.create_index("ix_api_key_owner", "api_key", ["owner"])
    op.create_table(
        "spend",
        sa.Column("api_key", sa.String(), nullable=False),
        sa.Column("period", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("cost", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("api_key", "period"),
    )
    op.add_column("batch", sa.Column("over_budget_at", sa.Float(), nullable=True))
    op.add_column("batch", sa.Column("over_budget_until", sa.Float(), nullable=True))
    op.create_index("batch_over_budget", "batch", ["api_key", "over_budget_until"])
    op.execute("DROP VIEW usage")
    op.execute(usage(op.get_bind().dialect.name))
