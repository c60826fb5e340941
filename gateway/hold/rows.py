"""Rows to values and back, and the two statements that everything hinges on: ``move`` and ``claim``."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, and_, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import OperatorError, StoreError
from gateway.hold import index, values
from gateway.hold.states import OPEN, Event, State, step
from gateway.hold.values import (
    Decision,
    HeldItem,
    MessageFacts,
    OutboxKind,
    OutboxRow,
    OutboxState,
)
from gateway.model.envelope import Client, Direction, Recipient
from gateway.model.verdict import Transform
from gateway.store import events
from gateway.store.events import Actor
from gateway.store.tables import decision, held, message, outbox

ABSURD = timedelta(days=7)
"""No retry and no claim is so far ahead."""
LEAVES_AS_IT_IS = frozenset({Event.VIEW, Event.COMMENT})
ASIDE = timedelta(hours=1)
"""A row that cannot be read (another version wrote it) waits so long, out of the way of all others."""


def facts_of(row: Any) -> MessageFacts:
    """A row of ``message``."""
    return MessageFacts(
        id=row["id"],
        received=row["received"],
        client=values.load_client(row["client"]),
        reverse_path=row["reverse_path"],
        parameters=values.load_strings(row["parameters"]),
        size=row["size"],
        sha256=row["sha256"],
        body=row["body"],
        message_id=row["message_id"],
        subject=row["subject"],
        authors=values.load_strings(row["authors"]),
        automatic=bool(row["automatic"]),
    )


def _item_of(row: Any, facts: MessageFacts) -> HeldItem:
    return HeldItem(
        id=row["id"],
        message=facts,
        state=values.known(State, row["state"]),
        queue=row["queue"],
        round=row["round"],
        recipients=values.load_recipients(row["recipients"]),
        orders=values.load_orders(row["orders"]),
        transforms=values.load_transforms(row["transforms"]),
        matches=values.load_matches(row["matches"]),
        audience=row["audience"],
        created=row["created"],
        changed=row["changed"],
        expires=row["expires"],
        version=row["version"],
        asked=row["asked"],
        escalated=row["escalated"],
        reminded=row["reminded"],
    )


def _outbox_of(row: Any, facts: MessageFacts) -> OutboxRow:
    return OutboxRow(
        id=row["id"],
        message=facts,
        kind=values.known(OutboxKind, row["kind"]),
        item=row["item"] or "",
        recipients=values.load_recipients(row["recipients"]),
        transforms=values.load_transforms(row["transforms"]),
        created=row["created"],
        attempts=row["attempts"],
        owner=row["owner"] or "",
    )


async def message_by_id(connection: AsyncConnection, ident: str) -> MessageFacts:
    """One message. Raises StoreError when it is not there."""
    row = (await connection.execute(select(message).where(message.c.id == ident))).mappings().first()
    if row is None:
        raise StoreError(f"message {ident} is not in the store")
    return facts_of(row)


def with_messages(query: Select[Any]) -> Select[Any]:
    """A select over ``held`` that brings each item's message along, its columns as ``m_…``."""
    columns = [column.label(f"m_{column.name}") for column in message.c]
    return query.add_columns(*columns).join(message, held.c.message == message.c.id)


def joined_item(row: Any) -> HeldItem:
    """A row of :func:`with_messages`. Raises StoreError, which names the item, when a value of it cannot be read."""
    try:
        return _item_of(row, facts_of({column.name: row[f"m_{column.name}"] for column in message.c}))
    except StoreError as error:
        raise StoreError(f"held item {row['id']} cannot be read: {error.detail}") from error


def listed_item(row: Any) -> HeldItem:
    """As :func:`joined_item`; of a row that cannot be read, what can be, shown as a damaged item with its id.

    For lists only: who decides or delivers reads it again, and is told why it cannot be read.
    """
    try:
        return joined_item(row)
    except StoreError as error:
        return _unreadable(row, error.detail)


def _unreadable(row: Any, why: str) -> HeldItem:
    facts = MessageFacts(
        id=row["message"],
        received=row["m_received"],
        client=Client(""),
        reverse_path=row["m_reverse_path"],
        parameters=(),
        size=row["m_size"],
        sha256=row["m_sha256"],
        body=row["m_body"],
        message_id=row["m_message_id"],
        subject=row["m_subject"],
        authors=(),
        automatic=True,
    )
    try:
        recipients = values.load_recipients(row["recipients"])
    except StoreError:
        recipients = (Recipient("(cannot be read)", Direction.INTERNAL),)
    return HeldItem(
        id=row["id"],
        message=facts,
        state=State.DAMAGED,
        queue=row["queue"],
        round=row["round"],
        recipients=recipients,
        orders=(),
        transforms=(),
        matches=(),
        audience=row["audience"],
        created=row["created"],
        changed=row["changed"],
        expires=row["expires"],
        version=row["version"],
        unreadable=why,
    )


async def item_by_id(connection: AsyncConnection, ident: str) -> HeldItem:
    """One held item. Raises OperatorError when there is none, StoreError when it cannot be read."""
    return joined_item(await _row(connection, ident))


async def place_of(connection: AsyncConnection, ident: str) -> HeldItem:
    """Where an item stands, for a move that does not depend on what else the row says: also of one half unreadable.

    Raises OperatorError when there is none, StoreError when not even its state can be read.
    """
    row = await _row(connection, ident)
    found = listed_item(row)
    return replace(found, state=values.known(State, row["state"])) if found.unreadable else found


async def _row(connection: AsyncConnection, ident: str) -> Any:
    query = with_messages(select(held).where(held.c.id == ident))
    row = (await connection.execute(query)).mappings().first()
    if row is None:
        raise OperatorError(f"There is no held item {ident}. «civicgate hold list» shows what there is.")
    return row


async def items(connection: AsyncConnection, query: Select[Any]) -> tuple[HeldItem, ...]:
    """The items that a select over ``held`` finds, for lists: one that cannot be read is among them as damaged."""
    found = (await connection.execute(with_messages(query))).mappings().all()
    return tuple(listed_item(row) for row in found)


async def resolve(connection: AsyncConnection, prefix: str, table: Any, what: str) -> str:
    """The one id that begins with ``prefix``. Raises OperatorError that lists the candidates when there are several."""
    if not prefix:
        raise OperatorError(f"Say which {what}: an id, or its beginning.")
    column = table.c.id
    exact = (await connection.execute(select(column).where(column == prefix))).scalar()
    if exact is not None:
        return str(exact)
    starts = func.substr(column, 1, len(prefix)) == prefix
    found = (await connection.execute(select(column).where(starts).order_by(column).limit(6))).scalars().all()
    if len(found) == 1:
        return str(found[0])
    if not found:
        raise OperatorError(f"There is no {what} {prefix}. The «list» command shows what there is.")
    more = ", …" if len(found) > 5 else ""
    raise OperatorError(f"{prefix} is the beginning of several ids: {', '.join(found[:5])}{more}. Write more of it.")


async def insert_message(connection: AsyncConnection, facts: MessageFacts) -> None:
    """Add a message."""
    await connection.execute(
        insert(message).values(
            id=facts.id,
            received=facts.received,
            client=values.dump(facts.client),
            reverse_path=facts.reverse_path,
            parameters=values.dump(facts.parameters),
            size=facts.size,
            sha256=facts.sha256,
            body=facts.body,
            message_id=facts.message_id,
            subject=facts.subject,
            authors=values.dump(facts.authors),
            automatic=facts.automatic,
        )
    )


async def insert_item(
    connection: AsyncConnection,
    item: HeldItem,
    actor: Actor,
    comment: str,
    remind_after: timedelta | None = None,
    at: datetime | None = None,
) -> None:
    """Add a held item, and the event that begins its history (``at``; without: when it was created).

    ``remind_after``: the setting.
    """
    await connection.execute(
        insert(held).values(
            id=item.id,
            message=item.message.id,
            state=item.state,
            queue=item.queue,
            round=item.round,
            recipients=values.dump(item.recipients),
            orders=values.dump(item.orders),
            transforms=values.dump(item.transforms),
            matches=values.dump(item.matches),
            audience=item.audience,
            created=item.created,
            changed=item.changed,
            expires=item.expires,
            version=item.version,
            **index.columns(item, remind_after),
        )
    )
    await events.append(connection, item.id, "held", at or item.created, actor, comment)


@dataclass(frozen=True, slots=True)
class NewRow:
    """An outbox row to be added, due at once."""

    id: str
    kind: OutboxKind
    message: str
    item: str
    recipients: tuple[Recipient, ...]
    transforms: tuple[Transform, ...] = ()


async def insert_outbox(connection: AsyncConnection, row: NewRow, now: datetime) -> None:
    """Add a delivery."""
    await connection.execute(
        insert(outbox).values(
            id=row.id,
            message=row.message,
            kind=row.kind,
            item=row.item or None,
            recipients=values.dump(row.recipients),
            transforms=values.dump(row.transforms),
            state=OutboxState.WAITING,
            accepted=0,
            created=now,
            next_attempt=now,
            attempts=0,
            owner=None,
            claimed_until=None,
            last_reply="",
        )
    )


async def move(
    connection: AsyncConnection,
    item: HeldItem,
    what: Event,
    now: datetime,
    actor: Actor,
    comment: str = "",
    **changes: object,
) -> State:
    """Take one transition and record it, if the item still stands where ``item`` says. ``changes``: columns to set.

    What only looks at an item, or says a word about it, takes nobody's reading away.
    Raises :class:`~gateway.hold.states.Impossible`, or :class:`Moved` when somebody was faster.
    """
    after = step(item.state, what)
    since = now if after is not item.state else item.changed
    version = item.version if what in LEAVES_AS_IT_IS else item.version + 1
    done = await connection.execute(
        update(held)
        .where(held.c.id == item.id, held.c.state == item.state, held.c.version == item.version)
        .values({"state": after, "changed": since, "version": version, **_turn(after)} | changes)
    )
    if done.rowcount != 1:
        raise Moved(item.id)
    await events.append(connection, item.id, what, now, actor, comment)
    return after


def _turn(after: State) -> dict[str, object]:
    """Nobody is reminded of what does not wait any more."""
    return {} if after is State.HELD else {"turn": None}


class Moved(Exception):
    """The item changed between reading and writing: look again."""


async def decisions(connection: AsyncConnection, item: str, round_: int | None = None) -> tuple[Decision, ...]:
    """What was said about an item, oldest first; of one round, or of all."""
    query = select(decision).where(decision.c.item == item).order_by(decision.c.id)
    if round_ is not None:
        query = query.where(decision.c.round == round_)
    rows = (await connection.execute(query)).mappings().all()
    return tuple(
        Decision(
            item=row["item"],
            round=row["round"],
            person=row["person"],
            verdict=row["verdict"],
            roles=values.load_strings(row["roles"]),
            digest=row["digest"],
            comment=row["comment"],
            os_user=row["os_user"],
            at=row["at"],
            allow=row["allow"],
        )
        for row in rows
    )


def due(table: Any, now: datetime) -> Any:
    """Which outbox rows may be claimed. A time beyond :data:`ABSURD` was written while the clock was wrong."""
    absurd = now + ABSURD
    free = or_(table.c.owner.is_(None), table.c.claimed_until <= now, table.c.claimed_until > absurd)
    ready = or_(table.c.next_attempt <= now, table.c.next_attempt > absurd)
    return and_(table.c.state == OutboxState.WAITING, ready, free)


async def claim(connection: AsyncConnection, owner: str, now: datetime, until: datetime) -> OutboxRow | None:
    """Take the row that has been due the longest, for ``owner``, until ``until``; None when nothing is due.

    One statement picks and marks, so two claimers never get the same row. On PostgreSQL a claimer passes over the rows
    that others are claiming at this moment, so that nobody waits.
    """
    inner = outbox.alias()
    oldest = select(inner.c.id).where(due(inner, now)).order_by(inner.c.next_attempt, inner.c.id).limit(1)
    pick = oldest.with_for_update(skip_locked=True).scalar_subquery()
    row = (
        (
            await connection.execute(
                update(outbox)
                .where(outbox.c.id == pick)
                .values(owner=owner, claimed_until=until, attempts=outbox.c.attempts + 1)
                .returning(outbox)
            )
        )
        .mappings()
        .first()
    )
    if row is None:
        return None
    try:
        return _outbox_of(row, await message_by_id(connection, row["message"]))
    except StoreError as error:
        await aside(connection, row["id"], now, error.detail)
        return None


async def aside(connection: AsyncConnection, ident: str, now: datetime, why: str) -> None:
    """Put a delivery out of the way of all others for :data:`ASIDE`: what it is about cannot be read."""
    later = {"owner": None, "claimed_until": None, "next_attempt": now + ASIDE, "last_reply": why}
    await connection.execute(update(outbox).where(outbox.c.id == ident).values(later))


async def forget(connection: AsyncConnection, ident: str) -> str:
    """When nothing needs a message's body any more, take its name out of the row and return it, else ``""``.

    The caller removes the file after the commit; a crash in between leaves it to the sweep. The message's row is locked
    first: of two that settle its last deliveries at once, the second sees what the first did.
    """
    row = select(message.c.body).where(message.c.id == ident).with_for_update(key_share=True)
    name = (await connection.execute(row)).scalar() or ""
    waiting = select(outbox.c.id).where(outbox.c.message == ident, outbox.c.state == OutboxState.WAITING).limit(1)
    open_item = select(held.c.id).where(held.c.message == ident, held.c.state.in_(sorted(OPEN))).limit(1)
    for query in (waiting, open_item):
        if (await connection.execute(query)).first() is not None:
            return ""
    await connection.execute(update(message).where(message.c.id == ident).values(body=""))
    return str(name)
