"""On PostgreSQL: a mark that a crash of the server takes away, so that no transaction's number is believed after it."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table; unlogged ones are empty after a crash, and on a standby that took over."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("CREATE UNLOGGED TABLE incarnation (id integer PRIMARY KEY CHECK (id = 1), token text NOT NULL)")
        op.execute("INSERT INTO incarnation VALUES (1, gen_random_uuid()::text)")
