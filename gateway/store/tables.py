"""The store's tables, for SQLAlchemy Core. The migrations make them; a test holds the two together."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Moment(TypeDecorator[datetime]):
    """An aware time, kept as microseconds since 1970 UTC: sorts and compares alike on every database."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """To the database."""
        return None if value is None else (value - EPOCH) // timedelta(microseconds=1)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        """From the database."""
        return None if value is None else EPOCH + timedelta(microseconds=value)


metadata = MetaData()

message = Table(
    "message",
    metadata,
    Column("id", Text, primary_key=True),
    Column("received", Moment, nullable=False),
    Column("client", Text, nullable=False),
    Column("reverse_path", Text, nullable=False),
    Column("parameters", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("message_id", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("authors", Text, nullable=False),
    Column("automatic", Boolean, nullable=False),
)

held = Table(
    "held",
    metadata,
    Column("id", Text, primary_key=True),
    Column("message", Text, ForeignKey("message.id"), nullable=False),
    Column("state", Text, nullable=False),
    Column("queue", Text, nullable=False),
    Column("round", Integer, nullable=False),
    Column("recipients", Text, nullable=False),
    Column("orders", Text, nullable=False),
    Column("transforms", Text, nullable=False),
    Column("matches", Text, nullable=False),
    Column("audience", Integer),
    Column("created", Moment, nullable=False),
    Column("changed", Moment, nullable=False),
    Column("expires", Moment, nullable=False),
    Column("version", Integer, nullable=False, server_default="1"),
    Column("asked", Moment),
    Column("escalated", Moment),
    Column("reminded", Moment),
    Column("turn", Moment),
    Column("parties", Text, nullable=False, server_default=""),
    Column("sender", Text, nullable=False, server_default=""),
    Column("rules", Text, nullable=False, server_default=""),
    Column("search", Text, nullable=False, server_default=""),
    Column("subject", Text, nullable=False, server_default=""),
    Column("size", BigInteger, nullable=False, server_default="0"),
    Index("held_by_state", "state", "expires"),
    Index("held_by_message", "message"),
    Index("held_by_parties", "state", "parties"),
    Index("held_by_turn", "state", "turn"),
    Index("held_by_sender", "sender", "created"),
    Index("held_by_creation", "created", "id"),
)

decision = Table(
    "decision",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("item", Text, ForeignKey("held.id"), nullable=False),
    Column("round", Integer, nullable=False),
    Column("person", Text, nullable=False),
    Column("verdict", Text, nullable=False),
    Column("roles", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("comment", Text, nullable=False),
    Column("os_user", Text, nullable=False),
    Column("at", Moment, nullable=False),
    Column("allow", Text, nullable=False, server_default=""),
    UniqueConstraint("item", "round", "person", name="one_decision_a_person"),
)

link = Table(
    "link",
    metadata,
    Column("id", Text, primary_key=True),
    Column("item", Text, ForeignKey("held.id"), nullable=False),
    Column("round", Integer, nullable=False),
    Column("digest", Text, nullable=False),
    Column("person", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("created", Moment, nullable=False),
    Column("expires", Moment, nullable=False),
    Column("used", Moment),
    Index("link_by_person", "item", "person"),
)

secret = Table(
    "secret",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", Text, primary_key=True),
    Column("message", Text, ForeignKey("message.id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("item", Text, ForeignKey("held.id")),
    Column("recipients", Text, nullable=False),
    Column("transforms", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("accepted", Integer, nullable=False),
    Column("created", Moment, nullable=False),
    Column("next_attempt", Moment, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("owner", Text),
    Column("claimed_until", Moment),
    Column("last_reply", Text, nullable=False),
    Index("outbox_due", "state", "next_attempt"),
    Index("outbox_by_message", "message"),
)

event = Table(
    "event",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("item", Text, nullable=False),
    Column("at", Moment, nullable=False),
    Column("actor", Text, nullable=False),
    Column("os_user", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("comment", Text, nullable=False),
    Column("hash", Text, nullable=False),
    Index("event_by_item", "item"),
)

exception = Table(
    "exception",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("sender", Text, nullable=False),
    Column("recipient", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("approver", Text, nullable=False),
    Column("created", Moment, nullable=False),
    Column("expires", Moment, nullable=False),
    Column("uses_left", Integer),
    Column("max_size", BigInteger),
    Column("revoked", Moment),
)

account = Table(
    "account",
    metadata,
    Column("address", Text, primary_key=True),
    Column("admin", Boolean, nullable=False),
    Column("password", Text, nullable=False),
    Column("totp", Text, nullable=False),
    Column("totp_step", BigInteger, nullable=False),
    Column("setup", Text, nullable=False),
    Column("setup_expires", Moment),
    Column("created", Moment, nullable=False),
    Column("password_changed", Moment),
    Column("last_login", Moment),
    Column("disabled", Moment),
)

recovery = Table(
    "recovery",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("address", Text, ForeignKey("account.address"), nullable=False),
    Index("recovery_by_address", "address"),
)

session = Table(
    "session",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("id", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("method", Text, nullable=False),
    Column("stage", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("roles", Text, nullable=False),
    Column("client", Text, nullable=False),
    Column("agent", Text, nullable=False),
    Column("hint", Text, nullable=False),
    Column("created", Moment, nullable=False),
    Column("seen", Moment, nullable=False),
    Column("expires", Moment, nullable=False),
    Index("session_by_address", "address"),
    Index("session_by_expiry", "expires"),
)

throttle = Table(
    "throttle",
    metadata,
    Column("key", Text, primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("last", Moment, nullable=False),
    Column("open", Moment, nullable=False),
    Index("throttle_by_age", "last"),
)

token = Table(
    "token",
    metadata,
    Column("id", Text, primary_key=True),
    Column("digest", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("created", Moment, nullable=False),
    Column("expires", Moment, nullable=False),
    Column("used", Moment),
    Column("revoked", Moment),
    UniqueConstraint("digest", name="one_token_a_digest"),
)

store = Table(
    "store",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
"""Facts about the store as a whole: ``bodies`` = the id of the place whose bodies these rows name."""

passage = Table(
    "passage",
    metadata,
    Column("nonce", Text, primary_key=True),
    Column("used", Moment, nullable=False),
    Index("passage_by_age", "used"),
)
"""Marks of copies that went through a mail server that asks us, each good for once."""
