"""Who may use the console: accounts, recovery codes, sessions, throttling of logins, API tokens."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    _account()
    _session()
    _throttle()
    _token()


def _key(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), primary_key=True)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False)


def _moment(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=nullable)


def _account() -> None:
    op.create_table(
        "account",
        _key("address"),
        sa.Column("admin", sa.Boolean(), nullable=False),
        _text("password"),
        _text("totp"),
        _moment("totp_step"),
        _text("setup"),
        _moment("setup_expires", nullable=True),
        _moment("created"),
        _moment("password_changed", nullable=True),
        _moment("last_login", nullable=True),
        _moment("disabled", nullable=True),
    )
    op.create_table(
        "recovery",
        _key("digest"),
        sa.Column("address", sa.Text(), sa.ForeignKey("account.address"), nullable=False),
    )
    op.create_index("recovery_by_address", "recovery", ["address"])


def _session() -> None:
    op.create_table(
        "session",
        _key("digest"),
        _text("id"),
        _text("address"),
        _text("method"),
        _text("stage"),
        _text("name"),
        _text("roles"),
        _text("client"),
        _text("agent"),
        _text("hint"),
        _moment("created"),
        _moment("seen"),
        _moment("expires"),
    )
    op.create_index("session_by_address", "session", ["address"])
    op.create_index("session_by_expiry", "session", ["expires"])


def _throttle() -> None:
    op.create_table(
        "throttle",
        _key("key"),
        sa.Column("failures", sa.Integer(), nullable=False),
        _moment("last"),
        _moment("open"),
    )
    op.create_index("throttle_by_age", "throttle", ["last"])


def _token() -> None:
    op.create_table(
        "token",
        _key("id"),
        _text("digest"),
        _text("name"),
        _text("address"),
        _text("scope"),
        _moment("created"),
        _moment("expires"),
        _moment("used", nullable=True),
        _moment("revoked", nullable=True),
        sa.UniqueConstraint("digest", name="one_token_a_digest"),
    )
