"""What every part of the store stands on: database, bodies, post, directory, clock; and the way letters get out.

A letter is staged (its body sealed and fsynced) before the transaction that sends it, so that the transaction itself
writes rows only; a transaction that fails takes its staged letters back.
"""

import asyncio
import contextlib
import hashlib
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import StoreError
from gateway.hold import rows
from gateway.hold.approval import Directory, Needs, Resolver, Slot
from gateway.hold.index import question
from gateway.hold.letters import Letter, Original, wants_header_only
from gateway.hold.links import insert_link
from gateway.hold.post import Post
from gateway.hold.values import HeldItem, MessageFacts, OutboxKind
from gateway.model.envelope import Client, Direction, Recipient
from gateway.settings import HoldSettings
from gateway.store.bodies import Bodies, Damaged, pieces
from gateway.store.database import Database

RETURN_WHOLE = 1_000_000
"""Octets up to which a message is given back whole; of a larger one, only the header."""
HEADER_CAP = 65_536
DAMAGE_GRACE = timedelta(hours=1)
"""A damaged item stays at least so long for people to look at before it expires."""
OURSELVES = Client(address="", name="localhost", helo="localhost", inside=True)


def utc_now() -> datetime:
    """The clock."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Staged:
    """A letter whose body is in the store, without a row yet."""

    letter: Letter
    item: str
    kind: OutboxKind
    body: str
    sha256: str


@dataclass(slots=True)
class Core:
    """Shared by the parts; ``directory`` is replaced on reload."""

    database: Database
    bodies: Bodies
    post: Post
    directory: Directory
    settings: HoldSettings
    clock: Callable[[], datetime] = utc_now
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a fresh row is in the outbox, so that it leaves at once."""

    def needs(self, item: HeldItem, at: datetime | None = None) -> Needs:
        """Who must approve an item, on this day (default: now): deputies come and go."""
        when = self.clock() if at is None else at
        return Resolver(question(item), self.directory, self.settings.fallback_role, when).needs()

    def slots(self, item: HeldItem) -> tuple[Slot, ...]:
        """The approvals that can be given now."""
        return self.needs(item).slots

    def fallback_people(self, facts: MessageFacts) -> tuple[str, ...]:
        """Those who are told of damage."""
        return self.directory.holders(self.settings.fallback_role, facts.reverse_path)

    @asynccontextmanager
    async def staged(
        self, letters: Iterable[Letter], item: str = "", returned: Letter | None = None
    ) -> AsyncIterator[list[Staged]]:
        """Stage letters for the block's transaction; when the block raises, their bodies are taken back."""
        kinds = [(letter, OutboxKind.NOTICE) for letter in letters]
        kinds += [(returned, OutboxKind.RETURN)] if returned is not None else []
        done = [
            Staged(letter, item, kind, body_name(letter.id), hashlib.sha256(letter.data).hexdigest())
            for letter, kind in kinds
        ]
        try:
            puts = (self.bodies.put(one.body, pieces(one.letter.data)) for one in done)
            for problem in await asyncio.gather(
                *puts, return_exceptions=True
            ):  # all have ended, then the first is raised
                if problem is not None:
                    raise problem
            yield done
        except BaseException:
            with contextlib.suppress(StoreError, asyncio.CancelledError):
                await self.take_back([s.body for s in done], [s.letter.id for s in done])
            raise

    async def take_back(self, bodies: Sequence[str], messages: Sequence[str]) -> None:
        """Remove bodies after a failure, unless it turns out that their rows were committed after all."""
        async with self.database.read() as connection:
            kept = {facts.body for ident in messages if (facts := await _maybe(connection, ident)) is not None}
        await self.bodies.remove(name for name in bodies if name not in kept)

    async def send(self, connection: AsyncConnection, staged: Iterable[Staged], now: datetime) -> None:
        """Write staged letters into the outbox, inside the caller's transaction."""
        for one in staged:
            facts = MessageFacts(
                id=one.letter.id,
                received=now,
                client=OURSELVES,
                reverse_path="",
                parameters=one.letter.parameters,
                size=len(one.letter.data),
                sha256=one.sha256,
                body=one.body,
                message_id="",
                subject="",
                authors=(),
                automatic=True,
            )
            to = tuple(Recipient(address, Direction.INTERNAL) for address in one.letter.recipients)
            await rows.insert_message(connection, facts)
            await rows.insert_outbox(connection, rows.NewRow(facts.id, one.kind, facts.id, one.item, to), now)
            if one.letter.link is not None:
                await insert_link(connection, one.letter.link, now)

    async def original(self, facts: MessageFacts) -> Original | None:
        """What can be given back of a message; None when its body is gone or damaged. Raises StoreError.

        Of what came from outside only the header: who stands as its sender may never have seen it, and shall not get
        from us what was held for its content.
        """
        if not facts.body:
            return None
        whole = facts.client.inside and facts.size <= RETURN_WHOLE and not wants_header_only(facts)
        kept = bytearray()

        def keep(data: bytes) -> None:
            if whole or len(kept) < HEADER_CAP:
                kept.extend(data)

        try:
            await self.bodies.get(facts.body, facts.sha256, keep)
        except Damaged:
            return None
        if whole:
            return Original(bytes(kept), complete=True)
        return Original(_header(bytes(kept[:HEADER_CAP])), complete=False)


def _header(data: bytes) -> bytes:
    """The header, or as many whole lines of it as there are in ``data``."""
    head, empty_line, _ = data.partition(b"\r\n\r\n")
    return head + b"\r\n" if empty_line else head[: head.rfind(b"\r\n") + 2]


def body_name(ident: str) -> str:
    """A name that no other attempt uses."""
    return f"{ident}.{secrets.token_hex(4)}"


async def _maybe(connection: AsyncConnection, ident: str) -> MessageFacts | None:
    try:
        return await rows.message_by_id(connection, ident)
    except StoreError:
        return None
