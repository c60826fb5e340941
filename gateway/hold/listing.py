"""Held mail by filters, a page at a time, and what waits for a person: the database looks, however many there are.

Who may decide depends on the directory and the day, so it is stored nowhere. Items are asked for by ``parties``
(:mod:`gateway.hold.index`): each distinct value is resolved once for as long as directory and day stay, not each item.
Refuses a place to go on from that no page gave out.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any

import orjson
from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import OperatorError, StoreError
from gateway.hold import rows, values
from gateway.hold.approval import Directory, Needs, Question, Resolver, covers, identity
from gateway.hold.core import Core
from gateway.hold.index import base, question
from gateway.hold.states import OPEN, State
from gateway.hold.values import HeldItem
from gateway.model.envelope import fold
from gateway.store.tables import EPOCH, decision, held


class Sort(StrEnum):
    """By what a list is ordered; the id decides between equals."""

    CREATED = "created"
    EXPIRES = "expires"
    CHANGED = "changed"
    SIZE = "size"
    SENDER = "sender"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which items; all that is given must hold."""

    states: tuple[State, ...] = ()
    """None: those that are open."""
    queue: str = ""
    rule: str = ""
    text: str = ""
    """Part of an id, of the sender's or a recipient's address, or of the Message-ID; case does not matter."""
    subject: str = ""
    """Part of the subject. Whoever asks must be allowed to see subjects."""
    sender: str = ""
    """Part of the sender's address."""
    recipient: str = ""
    """Part of a recipient's address."""
    since: datetime | None = None
    """Held at that moment or later (aware)."""
    before: datetime | None = None
    """Held before that moment."""
    waiting_for: str = ""
    """Address of a person who can decide it now, has not, and whose word would help."""
    sent_by: str = ""
    """Address of the person who sent it, from whichever address of theirs."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some items, in order."""

    items: tuple[HeldItem, ...]
    next: str
    """Where the next page begins, ``""`` when there is none."""


@dataclass(slots=True)
class _Resolved:
    """What was resolved with one directory on one day."""

    directory: Directory
    day: date
    needs: dict[str, Needs]


class Listing:
    """Lists of one store, for one process."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._questions: dict[str, Question] = {}
        self._resolved = _Resolved(core.directory, date.min, {})

    async def page(
        self, wanted: Wanted, *, sort: Sort = Sort.CREATED, descending: bool = False, most: int = 50, after: str = ""
    ) -> Page:
        """At most ``most`` items. ``after``: ``Page.next`` of the page before. Raises OperatorError, StoreError."""
        column = held.c[sort.value]
        async with self._core.database.read() as connection:
            which = await self._where(connection, wanted)
            query = select(held).where(*which)
            if after:
                query = query.where(_beyond(column, after, sort, descending=descending))
            order = (column.desc(), held.c.id.desc()) if descending else (column, held.c.id)
            items = await rows.items(connection, query.order_by(*order).limit(most + 1))
        more = len(items) > most
        return Page(items[:most], _place(items[most - 1], sort) if more and most else "")

    async def count(self, wanted: Wanted) -> int:
        """How many there are. Raises StoreError."""
        async with self._core.database.read() as connection:
            query = select(func.count()).select_from(held).where(*await self._where(connection, wanted))
            return int((await connection.execute(query)).scalar_one())

    async def by_queue(self, states: Sequence[State] = ()) -> Mapping[str, int]:
        """Queue -> number of items; without ``states``, of those that are open. Raises StoreError."""
        query = select(held.c.queue, func.count()).where(held.c.state.in_(sorted(states or OPEN)))
        async with self._core.database.read() as connection:
            found = (await connection.execute(query.group_by(held.c.queue).order_by(held.c.queue))).all()
        return {row[0]: row[1] for row in found}

    async def undecidable(self) -> int:
        """How many items wait that nobody whom the directory names could approve. Raises StoreError."""
        async with self._core.database.read() as connection:
            needs = await self._needs(connection)
            query = select(held.c.parties, func.count()).where(held.c.state == State.HELD).group_by(held.c.parties)
            found = (await connection.execute(query)).all()
        return sum(number for parties, number in found if parties in needs and not needs[parties].possible)

    async def _where(self, connection: AsyncConnection, wanted: Wanted) -> list[ColumnElement[bool]]:
        which: list[ColumnElement[bool]] = [held.c.state.in_(sorted(wanted.states or OPEN))]
        if wanted.queue:
            which.append(held.c.queue == wanted.queue)
        if wanted.rule:
            which.append(held.c.rules.contains(f" {wanted.rule} ", autoescape=True))
        for column, text in ((held.c.search, wanted.text), (held.c.subject, wanted.subject)):
            which += [column.contains(word, autoescape=True) for word in text.lower().split()]
        if wanted.sender:
            which.append(held.c.sender.contains(fold(wanted.sender), autoescape=True))
        if wanted.recipient:
            which.append(func.lower(held.c.recipients).contains(wanted.recipient.lower(), autoescape=True))
        if wanted.since is not None:
            which.append(held.c.created >= wanted.since)
        if wanted.before is not None:
            which.append(held.c.created < wanted.before)
        if wanted.sent_by:
            which.append(held.c.sender.in_(self._addresses(wanted.sent_by)))
        if wanted.waiting_for:
            which += await self._waiting(connection, identity(self._core.directory, wanted.waiting_for))
        return which

    def _addresses(self, address: str) -> list[str]:
        """All addresses that reach the same person, as the column has them."""
        person = self._core.directory.person(identity(self._core.directory, address))
        known = (person.address, *getattr(person, "aliases", ())) if person is not None else ()
        return sorted({base(address), *(base(one) for one in known)})

    # --- what waits for a person -----------------------------------------------------------------------------------

    async def _waiting(self, connection: AsyncConnection, person: str) -> list[ColumnElement[bool]]:
        needs = await self._needs(connection)
        mine = sorted(parties for parties, found in needs.items() if person in found.people)
        done = await self._said(connection, person, {parties: needs[parties] for parties in mine})
        open_ = and_(held.c.state == State.HELD, held.c.expires > self._core.clock())
        return [open_, held.c.parties.in_(mine), *([held.c.id.not_in(sorted(done))] if done else [])]

    async def _needs(self, connection: AsyncConnection) -> dict[str, Needs]:
        """Who is asked, by ``parties`` of what is held now."""
        core, today = self._core, self._core.clock().astimezone().date()
        if self._resolved.directory is not core.directory or self._resolved.day != today:
            self._resolved = _Resolved(core.directory, today, {})
        groups = select(held.c.parties).where(held.c.state == State.HELD).distinct()
        found = (await connection.execute(groups)).scalars().all()
        await self._learn(connection, [parties for parties in found if parties not in self._questions])
        self._questions = {parties: self._questions[parties] for parties in found if parties in self._questions}
        known, now = self._resolved.needs, core.clock()
        for parties, asked in self._questions.items():
            if parties not in known:
                known[parties] = Resolver(asked, core.directory, core.settings.fallback_role, now).needs()
        self._resolved.needs = {parties: known[parties] for parties in self._questions}
        return self._resolved.needs

    async def _learn(self, connection: AsyncConnection, unknown: Sequence[str]) -> None:
        """Remember the questions behind values not met before: one item stands for each."""
        for start in range(0, len(unknown), 1000):
            some = and_(held.c.state == State.HELD, held.c.parties.in_(unknown[start : start + 1000]))
            one = select(func.min(held.c.id)).where(some).group_by(held.c.parties)
            await self._learn_from(connection, held.c.id.in_(one))
        for parties in unknown:
            if parties not in self._questions:  # the one that stood for them cannot be read: one of the others can
                await self._learn_from(connection, and_(held.c.state == State.HELD, held.c.parties == parties), 20)

    async def _learn_from(self, connection: AsyncConnection, which: ColumnElement[bool], most: int = 1000) -> None:
        query = rows.with_messages(select(held).where(which).order_by(held.c.id).limit(most))
        for row in (await connection.execute(query)).mappings():
            with suppress(StoreError):  # one that cannot be read waits for nobody, and keeps no other from anybody
                self._questions[row["parties"]] = question(rows.joined_item(row))

    async def _said(self, connection: AsyncConnection, person: str, needs: Mapping[str, Needs]) -> set[str]:
        """Of items on which somebody has said yes: those that need nothing of this person any more."""
        columns = (held.c.id, held.c.parties, decision.c.person, decision.c.roles, decision.c.at)
        this_round = and_(decision.c.item == held.c.id, decision.c.round == held.c.round)
        query = select(*columns).join(decision, this_round).where(held.c.state == State.HELD)
        by_item: dict[str, tuple[str, dict[str, Mapping[str, frozenset[str]]]]] = {}
        for ident, parties, who, roles, at in (await connection.execute(query)).all():
            if parties in needs:
                counted = self._counted(needs[parties], parties, who, roles, at)
                by_item.setdefault(ident, (parties, {}))[1].update({who: counted} if counted else {})
        return {
            ident
            for ident, (parties, offers) in by_item.items()
            if person in offers or not needs[parties].helps(person, offers)
        }

    def _counted(self, needs: Needs, parties: str, who: str, roles: str, at: datetime) -> Mapping[str, frozenset[str]]:
        """The roles that an approval fills: those that its giver holds now, or held on its day as deputy."""
        try:
            said = values.load_strings(roles)
        except StoreError:
            return {}  # a decision that cannot be read fills nothing, and hides no other item
        now = _of(needs, who, said)
        if now or at.astimezone().date() == self._resolved.day:
            return now
        core = self._core
        then = Resolver(self._questions[parties], core.directory, core.settings.fallback_role, at).needs()
        return _of(then, who, said)


def _of(needs: Needs, who: str, said: Sequence[str]) -> Mapping[str, frozenset[str]]:
    rights = needs.rights_of(who)
    return {role: rights[role] for role in rights if any(covers(given, role) for given in said)}


def _place(item: HeldItem, sort: Sort) -> str:
    """Where an item stands in an order, for the next page."""
    known: dict[Sort, object] = {
        Sort.CREATED: item.created,
        Sort.EXPIRES: item.expires,
        Sort.CHANGED: item.changed,
        Sort.SIZE: item.message.size,
        Sort.SENDER: base(item.message.reverse_path),
    }
    value = known[sort]
    plain = (value - EPOCH) // timedelta(microseconds=1) if isinstance(value, datetime) else value
    return base64.urlsafe_b64encode(orjson.dumps([sort, plain, item.id])).decode().rstrip("=")


def _beyond(column: Any, after: str, sort: Sort, *, descending: bool) -> ColumnElement[bool]:
    try:
        by, plain, ident = orjson.loads(base64.urlsafe_b64decode(after + "=" * (-len(after) % 4)))
        if by != sort or type(plain) is not (str if sort is Sort.SENDER else int) or not isinstance(ident, str):
            raise ValueError(by)
        value = plain if sort in (Sort.SIZE, Sort.SENDER) else EPOCH + timedelta(microseconds=int(plain))
    except (ValueError, TypeError, OverflowError, binascii.Error) as error:
        raise OperatorError("That is no place in this list: begin at its first page.") from error
    if descending:
        return or_(column < value, and_(column == value, held.c.id < ident))
    return or_(column > value, and_(column == value, held.c.id > ident))
