"""The store as the rest of the gateway sees it: accept, read, decide, count; and opening it.

Refuses to return from :meth:`Hold.accept` before body and rows would survive a power cut.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import StoreError
from gateway.hold import rows
from gateway.hold.approval import Directory
from gateway.hold.asking import asking, deadline, waiting
from gateway.hold.core import Core, body_name, utc_now
from gateway.hold.decide import Desk
from gateway.hold.exceptions import Exceptions
from gateway.hold.letters import Letter
from gateway.hold.listing import Listing
from gateway.hold.passage import Passages
from gateway.hold.post import Post
from gateway.hold.proof import Prover
from gateway.hold.states import OPEN, State
from gateway.hold.values import (
    Acceptance,
    Decision,
    HeldItem,
    MessageFacts,
    OutboxKind,
    OutboxState,
    QueueFacts,
    list_ids,
)
from gateway.model.envelope import Recipient
from gateway.settings import Settings
from gateway.store import events
from gateway.store.bodies import NAME
from gateway.store.events import GATEWAY
from gateway.store.opening import open_store
from gateway.store.tables import held, message, outbox
from gateway.store.text import plain

HASH_INLINE = 262_144
"""Octets up to which a digest is computed on the event loop."""


class Hold:
    """One process's door to the store; any number of processes may have one."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.desk = Desk(core)
        self.listing = Listing(core)
        self.prover = Prover(core)
        self.passages = Passages(core)
        self.exceptions = Exceptions(core)

    async def close(self) -> None:
        """Close the database."""
        await self.core.database.close()

    def use_directory(self, directory: Directory) -> None:
        """Ask this directory from now on (reload)."""
        self.core.directory = directory

    async def accept(self, acceptance: Acceptance) -> None:
        """Make the message, its held items, outbox rows and notices durable, all or nothing.

        When it returns, 250 may be said. Raises StoreError (451): nothing of it will ever be delivered or seen.
        """
        core = self.core
        stored = bool(acceptance.held or acceptance.outgoing)
        if acceptance.message.size > HASH_INLINE:
            await asyncio.to_thread(acceptance.message.sha256)  # which keeps it
        facts = _facts(acceptance, body_name(acceptance.transaction) if stored else "")
        held_items = [self._item(acceptance, facts, number) for number in range(1, len(acceptance.held) + 1)]
        asks = [asking(core, item, item.created) for item in held_items]
        letters = [letter for asked in asks for letter in asked.letters] + self._matched(acceptance, facts)
        try:
            if stored:
                await core.bodies.put(facts.body, acceptance.message.chunks())
            async with core.staged(letters) as staged:

                async def work(connection: AsyncConnection) -> None:
                    if stored:
                        await rows.insert_message(connection, facts)
                    for item in held_items:
                        why = "; ".join(f"{order.rule}: {order.reason}" for order in item.orders)
                        await rows.insert_item(connection, item, GATEWAY, why, core.settings.remind_after)
                    for number, group in enumerate(acceptance.outgoing, 1):
                        ident = f"{facts.id}-o{number}"
                        row = rows.NewRow(ident, OutboxKind.RELAY, facts.id, "", group.recipients, group.transforms)
                        await rows.insert_outbox(connection, row, facts.received)
                    await core.send(connection, staged, facts.received)

                await self._written(facts.id if stored else "", work, alone=bool(held_items))
        except BaseException:
            if stored:
                with suppress(StoreError):  # then the sweep does it
                    await core.take_back([facts.body], [facts.id])
            raise
        core.wake.set()
        for asked in asks:
            asked.alarm()

    async def _written(self, ident: str, work: Callable[[AsyncConnection], Awaitable[None]], *, alone: bool) -> None:
        """Write it; a commit whose fate nobody could tell has happened when the message is there. Raises StoreError."""
        try:
            await self.core.database.write(work, alone=alone)  # not alone: it only adds rows
        except StoreError as error:
            if not ident or isinstance(error.__cause__, IntegrityError) or not await self._is_there(ident):
                raise

    async def _is_there(self, ident: str) -> bool:
        with suppress(StoreError):
            async with self.core.database.read() as connection:
                return (await connection.execute(select(message.c.id).where(message.c.id == ident))).first() is not None
        return False

    def _matched(self, acceptance: Acceptance, facts: MessageFacts) -> list[Letter]:
        core = self.core
        recipients = [r for group in acceptance.held for r in group.recipients]
        recipients += [r for leaving in acceptance.outgoing for r in leaving.recipients]
        return core.post.matched(facts, acceptance.recipients or recipients, acceptance.notices, core.directory)

    def _item(self, acceptance: Acceptance, facts: MessageFacts, number: int) -> HeldItem:
        group = acceptance.held[number - 1]
        if not group.orders or not group.recipients:
            raise StoreError(f"{facts.id}: a held group without a hold order or without recipients")
        item = HeldItem(
            id=f"{facts.id}-h{number}",
            message=facts,
            state=State.HELD,
            queue=group.orders[0].queue,
            round=1,
            recipients=group.recipients,
            orders=group.orders,
            transforms=group.transforms,
            matches=group.matches,
            audience=group.audience or self._audience(group.recipients),
            created=facts.received,
            changed=facts.received,
            expires=facts.received,
        )
        return waiting(self.core, replace(item, expires=deadline(self.core, item, facts.received)))

    def _audience(self, recipients: Sequence[Recipient]) -> int | None:
        """How many people get it in the end, as far as the directory says; None when it does not."""
        reached: dict[object, int] = {}
        for recipient in recipients:
            ids = list_ids([recipient])
            sizes = [found.size for found in map(self.core.directory.list, ids) if found is not None]
            if 0 in sizes or (ids and not sizes):
                return None
            reached[ids or recipient.address] = max(sizes, default=1)  # a list under two addresses reaches nobody twice
        return sum(reached.values())

    async def resolve(self, prefix: str) -> str:
        """The id of the held item that begins with ``prefix``. Raises OperatorError."""
        async with self.core.database.read() as connection:
            return await rows.resolve(connection, prefix, held, "held item")

    async def list(self, *, queue: str = "", states: Sequence[State] = ()) -> tuple[HeldItem, ...]:
        """Held items, oldest first; without ``states``, those that are open."""
        query = select(held).where(held.c.state.in_(sorted(states or OPEN))).order_by(held.c.created, held.c.id)
        async with self.core.database.read() as connection:
            return await rows.items(connection, query.where(held.c.queue == queue) if queue else query)

    async def history(self, ident: str) -> tuple[events.Entry, ...]:
        """All events of a held item or an exception, oldest first."""
        async with self.core.database.read() as connection:
            return await events.entries(connection, ident)

    async def decisions(self, ident: str) -> tuple[Decision, ...]:
        """All decisions on an item, of all rounds."""
        async with self.core.database.read() as connection:
            return await rows.decisions(connection, ident)

    async def verify_events(self) -> tuple[int, str]:
        """Check the chain of events: number of rows and last hash. Raises StoreError where it was altered."""
        async with self.core.database.read() as connection:
            return await events.verify(connection)

    async def body(self, item: HeldItem, write: Callable[[bytes], object]) -> None:
        """Pass the body to ``write`` (in a thread). Whoever calls has recorded the view. Raises Damaged, StoreError."""
        await self.core.bodies.get(item.message.body, item.message.sha256, write)

    async def queue_facts(self) -> QueueFacts:
        """Counts and ages for the metrics."""
        now = self.core.clock()
        waiting = outbox.c.state == OutboxState.WAITING
        by_queue = select(held.c.queue, func.count(), func.min(held.c.created)).where(held.c.state.in_(sorted(OPEN)))
        async with self.core.database.read() as connection:
            queues = (await connection.execute(by_queue.group_by(held.c.queue))).all()
            depth, oldest = (
                await connection.execute(select(func.count(), func.min(outbox.c.created)).where(waiting))
            ).one()
            damaged = select(func.count()).select_from(held).where(held.c.state == State.DAMAGED)
            damaged_count = (await connection.execute(damaged)).scalar_one()
        return QueueFacts(
            held={queue: count for queue, count, _ in queues},
            oldest_held={queue: _age(now, created) for queue, _, created in queues},
            outbox=depth,
            oldest_outbox=_age(now, oldest),
            damaged=damaged_count,
            undecidable=await self.listing.undecidable(),
        )

    async def sweep(self) -> int:
        """Remove what a crash left behind of bodies; returns how many files. Cheap; at start."""
        async with self.core.database.read() as connection:
            found = await connection.execute(select(message.c.body).where(message.c.body != ""))
            known = frozenset(found.scalars())
        return await self.core.bodies.sweep(known.__contains__)


def _age(now: datetime, since: Any) -> float:
    return 0.0 if since is None else max(0.0, (now - since).total_seconds())


def _facts(acceptance: Acceptance, body: str) -> MessageFacts:
    if NAME.match(acceptance.transaction) is None or len(acceptance.transaction) > 120:
        raise StoreError(f"«{acceptance.transaction}» cannot be a transaction id")
    return MessageFacts(
        id=acceptance.transaction,
        received=acceptance.received,
        client=acceptance.client,
        reverse_path=acceptance.reverse_path,
        parameters=acceptance.parameters,
        size=acceptance.message.size,
        sha256=acceptance.message.sha256(),
        body=body,
        message_id=plain(acceptance.message_id),
        subject=plain(acceptance.subject),
        authors=acceptance.authors,
        automatic=acceptance.automatic,
    )


def console_address(settings: Settings) -> str:
    """Where people reach the console, ``""`` when they cannot.

    ``base_url`` says so by itself: with several nodes another one may serve it. Without it there is only this node's
    own console, and links to a loopback or to the address that means all addresses help nobody.
    """
    console = settings.console
    host = console.address.host.strip("[]")
    nowhere = host == "localhost" or host.startswith("127.") or host in ("::1", "0.0.0.0", "::")  # noqa: S104
    return console.base_url or (console.url if console.enabled and not nowhere else "")


async def open_hold(
    settings: Settings,
    directory: Directory,
    *,
    clock: Callable[[], datetime] = utc_now,
    busy_timeout: float = 10.0,
) -> Hold:
    """Open the store of ``settings.store``; make folder, key and database when missing, migrate an older one.

    Raises StoreError, and ConfigErrors for notice templates that cannot be used.
    """
    domain = settings.network.internal_domains[0] if settings.network.internal_domains else "localhost"
    post = Post(settings.notices, domain, settings.smtp.hostname, console_address(settings))
    database, bodies = await open_store(settings.store, busy_timeout)
    return Hold(Core(database, bodies, post, directory, settings.hold, clock))
