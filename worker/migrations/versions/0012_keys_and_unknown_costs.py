"""Keys with a budget that may call models of unknown price all the same"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("api_key", sa.Column("allow_unknown_cost", sa.Boolean(), nullable=False, server_default=sa.false()))
