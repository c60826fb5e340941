"""Marks on copies that a mail server asks us about again, each good for once."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "passage",
        sa.Column("nonce", sa.Text(), primary_key=True),
        sa.Column("used", sa.BigInteger(), nullable=False),
    )
    op.create_index("passage_by_age", "passage", ["used"])
