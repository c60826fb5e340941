"""What approval needs: who is asked and when, columns that lists and searches read, one-time links, our own secrets.

Items from before are filled in: their approvers were asked when they were held.
"""

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

HELD = sa.table(
    "held",
    *(sa.column(name) for name in ("id", "message", "state", "recipients", "orders", "changed", "created", "asked")),
    *(sa.column(name) for name in ("parties", "sender", "size", "rules", "search", "subject")),
)
MESSAGE = sa.table(
    "message", *(sa.column(name) for name in ("id", "reverse_path", "size", "message_id", "subject", "authors"))
)


def upgrade() -> None:
    """Add, then fill in."""
    _columns()
    _link()
    op.create_table("secret", sa.Column("name", sa.Text(), primary_key=True), _text("value"))
    _fill(op.get_bind())


def _text(name: str, default: str | None = None) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False, server_default=default)


def _moment(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=nullable)


def _columns() -> None:
    op.add_column("held", sa.Column("version", sa.Integer(), nullable=False, server_default="1"))
    for name in ("asked", "escalated", "reminded", "turn"):
        op.add_column("held", _moment(name, nullable=True))
    for name in ("parties", "sender", "rules", "search", "subject"):
        op.add_column("held", _text(name, ""))
    op.add_column("held", sa.Column("size", sa.BigInteger(), nullable=False, server_default="0"))
    op.create_index("held_by_parties", "held", ["state", "parties"])
    op.create_index("held_by_turn", "held", ["state", "turn"])
    op.create_index("held_by_sender", "held", ["sender", "created"])
    op.create_index("held_by_creation", "held", ["created", "id"])
    op.add_column("decision", _text("allow", ""))


def _link() -> None:
    op.create_table(
        "link",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("item", sa.Text(), sa.ForeignKey("held.id"), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        _text("digest"),
        _text("person"),
        _text("purpose"),
        _moment("created"),
        _moment("expires"),
        _moment("used", nullable=True),
    )
    op.create_index("link_by_person", "link", ["item", "person"])


def _fill(connection: sa.Connection) -> None:
    query = sa.select(
        HELD.c.id, HELD.c.state, HELD.c.recipients, HELD.c.orders, HELD.c.changed, HELD.c.created,
        *(column.label(f"m_{column.name}") for column in MESSAGE.c),
    ).join_from(HELD, MESSAGE, HELD.c.message == MESSAGE.c.id)  # fmt: skip
    for row in connection.execute(query).mappings().all():
        connection.execute(sa.update(HELD).where(HELD.c.id == row["id"]).values(_columns_of(row)))


def _columns_of(row: Any) -> dict[str, object]:
    """As :mod:`gateway.hold.index` writes them; ``parties`` is unique, so that the item is always looked at."""
    try:
        recipients = [str(r["address"]) for r in json.loads(row["recipients"])]
        rules = list(dict.fromkeys(str(o["rule"]) for o in json.loads(row["orders"])))
    except (ValueError, TypeError, KeyError):
        recipients, rules = [], []  # as unreadable as before
    words = (row["id"], row["m_reverse_path"], *recipients, row["m_message_id"])
    local, at, domain = row["m_reverse_path"].lower().rpartition("@")
    return {
        "asked": row["changed"] if row["state"] == "held" else row["created"],
        "parties": f"item:{row['id']}",
        "sender": local.partition("+")[0] + at + domain,
        "size": row["m_size"],
        "rules": f" {' '.join(rules)} ",
        "search": " ".join(words).lower(),
        "subject": row["m_subject"].lower(),
    }
