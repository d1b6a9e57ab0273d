"""Which surface a batch came from, and which API key made it"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("batch", sa.Column("kind", sa.String(), nullable=False, server_default="batch"))
    op.add_column("batch", sa.Column("api_key", sa.String(), nullable=True))
    op.drop_index("batch_by_owner", "batch")
    op.create_index("batch_by_owner", "batch", ["owner", "kind", "number"])
