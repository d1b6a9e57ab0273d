"""The views results and usage (docs/sql.md), and which attempt gave a job its result

A later migration that rebuilds a table under a view (SQLite's batch mode) drops the views first and creates them again.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

COST = """CASE WHEN COALESCE(SUM(a.cost), 0) = 0 AND COUNT(a.id) > COUNT(a.cost) THEN NULL
 ELSE CAST(COALESCE(SUM(a.cost), 0) AS DOUBLE PRECISION) / 1000000000000.0 END"""


def tokens(column: str) -> str:
    """What is known of a sum; NULL if no call said it and one of them may have used some."""
    return f"""CASE WHEN COUNT(a.{column}) = 0 AND COUNT(CASE WHEN a.cost IS NULL OR a.cost <> 0 THEN a.id END) > 0
  THEN NULL ELSE COALESCE(SUM(a.{column}), 0) END AS {column}"""


def answer(expression: str) -> str:
    """Of the one attempt that gave the line its current result."""
    return f"MAX(CASE WHEN a.id = j.answered_by THEN {expression} END)"


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


def results(dialect: str) -> str:
    return f"""CREATE VIEW results AS SELECT
 b.id AS batch,
 b.owner AS owner,
 j.id AS job,
 j.id & 4294967295 AS line,
 j.custom_id AS custom_id,
 j.endpoint AS endpoint,
 MAX(s.route) AS model,
 {answer("a.model")} AS served_model,
 {answer(provider(dialect))} AS provider,
 {answer("a.deployment")} AS deployment,
 CASE j.state WHEN 0 THEN 'pending' WHEN 1 THEN 'succeeded' WHEN 2 THEN 'failed' WHEN 3 THEN 'expired'
  ELSE 'cancelled' END AS state,
 {answer("a.ending")} AS ending,
 {answer("a.status_code")} AS status_code,
 j.error_code AS error_code,
 {tokens("input_tokens")},
 {tokens("cached_tokens")},
 {tokens("output_tokens")},
 {tokens("reasoning_tokens")},
 {COST} AS cost_usd,
 COUNT(a.id) - COUNT(a.cost) AS unknown_cost,
 {answer("a.cost_source")} AS cost_source,
 COUNT(a.id) AS attempts,
 CAST(MIN(a.id) AS DOUBLE PRECISION) / 1000000000.0 AS first_call_at,
 {answer("a.seconds")} AS service_seconds,
 j.generation AS generation
FROM batch b
JOIN job j ON j.id BETWEEN (b.number << 32) AND (b.number << 32) + 4294967295
LEFT JOIN slice s ON s.id = j.slice
LEFT JOIN attempt a ON a.job = j.id
GROUP BY b.id, b.number, j.id"""


def usage(dialect: str) -> str:
    return f"""CREATE VIEW usage AS SELECT
 {day(dialect)} AS day,
 b.owner AS owner,
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
GROUP BY b.id, b.number, 1, 4, 5"""


def upgrade() -> None:
    op.add_column("job", sa.Column("answered_by", sa.BigInteger(), nullable=True))
    op.execute(
        "UPDATE job SET answered_by = (SELECT CASE job.state WHEN 1 THEN MIN(a.id) ELSE MAX(a.id) END FROM attempt a"
        " WHERE a.job = job.id AND a.outcome = CASE job.state WHEN 1 THEN 'succeeded' ELSE 'failed' END)"
        " WHERE state IN (1, 2)"
    )
    dialect = op.get_bind().dialect.name
    op.execute(results(dialect))
    op.execute(usage(dialect))
