"""First schema: message, held, decision, outbox, event (append-only), exception."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make all tables."""
    _message()
    _held()
    _outbox()
    _event()
    _exception()


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False)


def _moment(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=nullable)


def _message() -> None:
    op.create_table(
        "message",
        sa.Column("id", sa.Text(), primary_key=True),
        _moment("received"),
        _text("client"),
        _text("reverse_path"),
        _text("parameters"),
        sa.Column("size", sa.BigInteger(), nullable=False),
        _text("sha256"),
        _text("body"),
        _text("message_id"),
        _text("subject"),
        _text("authors"),
        sa.Column("automatic", sa.Boolean(), nullable=False),
    )


def _held() -> None:
    op.create_table(
        "held",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("message", sa.Text(), sa.ForeignKey("message.id"), nullable=False),
        _text("state"),
        _text("queue"),
        sa.Column("round", sa.Integer(), nullable=False),
        _text("recipients"),
        _text("orders"),
        _text("transforms"),
        _text("matches"),
        sa.Column("audience", sa.Integer()),
        _moment("created"),
        _moment("changed"),
        _moment("expires"),
    )
    op.create_index("held_by_state", "held", ["state", "expires"])
    op.create_index("held_by_message", "held", ["message"])
    op.create_table(
        "decision",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("item", sa.Text(), sa.ForeignKey("held.id"), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        _text("person"),
        _text("verdict"),
        _text("roles"),
        _text("digest"),
        _text("comment"),
        _text("os_user"),
        _moment("at"),
        sa.UniqueConstraint("item", "round", "person", name="one_decision_a_person"),
    )


def _outbox() -> None:
    op.create_table(
        "outbox",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("message", sa.Text(), sa.ForeignKey("message.id"), nullable=False),
        _text("kind"),
        sa.Column("item", sa.Text(), sa.ForeignKey("held.id")),
        _text("recipients"),
        _text("transforms"),
        _text("state"),
        sa.Column("accepted", sa.Integer(), nullable=False),
        _moment("created"),
        _moment("next_attempt"),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("owner", sa.Text()),
        _moment("claimed_until", nullable=True),
        _text("last_reply"),
    )
    op.create_index("outbox_due", "outbox", ["state", "next_attempt"])
    op.create_index("outbox_by_message", "outbox", ["message"])


def _event() -> None:
    op.create_table(
        "event",
        sa.Column("seq", sa.Integer(), primary_key=True),
        _text("item"),
        _moment("at"),
        _text("actor"),
        _text("os_user"),
        _text("event"),
        _text("comment"),
        _text("hash"),
    )
    op.create_index("event_by_item", "event", ["item"])
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER event_no_{verb.lower()} BEFORE {verb} ON event "
                "BEGIN SELECT RAISE(ABORT, 'events are append-only'); END"
            )


def _exception() -> None:
    op.create_table(
        "exception",
        sa.Column("id", sa.Text(), primary_key=True),
        _text("kind"),
        _text("sender"),
        _text("recipient"),
        _text("reason"),
        _text("approver"),
        _moment("created"),
        _moment("expires"),
        sa.Column("uses_left", sa.Integer()),
        sa.Column("max_size", sa.BigInteger()),
        _moment("revoked", nullable=True),
    )
