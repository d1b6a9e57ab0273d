"""Webhooks of single batches, the secrets of their owners, and events that happen again"""

from urllib.parse import urlsplit

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

KEY = ["batch", "generation", "type"]


def upgrade() -> None:
    op.add_column("batch", sa.Column("webhook_endpoint", sa.String(), nullable=True))
    op.add_column("batch", sa.Column("webhook_events", sa.JSON(), nullable=True))
    op.create_index("ix_batch_webhook_endpoint", "batch", ["webhook_endpoint"])
    op.add_column("webhook_endpoint", sa.Column("receiver", sa.String(), nullable=False, server_default=""))
    op.add_column("webhook_endpoint", sa.Column("of_batches", sa.Boolean(), nullable=False, server_default=sa.false()))
    _fill_receivers()
    op.create_table(
        "webhook_secret",
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("secret", sa.String(), nullable=False),
        sa.Column("old_secret", sa.String(), nullable=True),
        sa.Column("old_secret_until", sa.Float(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("owner"),
    )
    op.add_column("event", sa.Column("number", sa.Integer(), nullable=False, server_default="1"))
    op.add_column("event", sa.Column("data", sa.JSON(), nullable=True))
    postgres = op.get_bind().dialect.name == "postgresql"
    old = "event_batch_generation_type_key" if postgres else "uq_event_batch"
    naming = None if postgres else {"uq": "uq_%(table_name)s_%(column_0_name)s"}
    with op.batch_alter_table("event", naming_convention=naming) as event:
        event.drop_constraint(old, type_="unique")
        event.create_unique_constraint("event_once", [*KEY, "number"])


def _fill_receivers() -> None:
    endpoint = sa.table("webhook_endpoint", sa.column("id"), sa.column("url"), sa.column("receiver"))
    for id, url in op.get_bind().execute(sa.select(endpoint.c.id, endpoint.c.url)).all():
        receiver = urlsplit(url).netloc.lower()
        op.get_bind().execute(sa.update(endpoint).where(endpoint.c.id == id).values(receiver=receiver))
