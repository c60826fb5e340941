"""What the clock does to held items: reminders, escalation, expiry. Several processes may look at once.

Each turn is one transaction with its event; who comes second finds it done. Refuses to remind who has approved already.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import StoreError
from gateway.hold import ending, index, links, rows
from gateway.hold.core import Core
from gateway.hold.reading import Reading, read, unchanged
from gateway.hold.rows import Moved
from gateway.hold.states import Event, State
from gateway.hold.values import HeldItem
from gateway.store.events import GATEWAY
from gateway.store.tables import held

LAPSES = (State.ATTESTING, State.HELD, State.DAMAGED)
"""States that end with the item's time."""


async def expire(core: Core, limit: int) -> int:
    """Give back what nobody decided, or confirmed, in time; returns how many. Raises StoreError after all others."""
    now = core.clock()
    due = select(held.c.id).where(held.c.state.in_(LAPSES), held.c.expires <= now).order_by(held.c.expires)

    async def one(ident: str) -> bool:
        reading = await read(core, ident)
        if reading.item.state not in LAPSES or reading.item.expires > now:
            return False
        attesting = reading.item.state is State.ATTESTING
        why = "the sender did not confirm in time" if attesting else "nobody decided in time"
        await ending.end(core, reading, ending.End(Event.EXPIRE, GATEWAY, why))
        return True

    return await _each(core, due.limit(limit), one)


async def forget_links(core: Core) -> int:
    """Take away links that are long over; returns how many. Raises StoreError."""
    return await core.database.write(partial(links.forget, now=core.clock()), alone=False)


async def take(core: Core, limit: int) -> int:
    """Remind and escalate where it is time; returns how many items had a turn. Raises StoreError after all others."""
    now = core.clock()
    due = select(held.c.id).where(held.c.state == State.HELD, held.c.turn <= now).order_by(held.c.turn)

    async def one(ident: str) -> bool:
        reading = await read(core, ident)
        item = reading.item
        if item.state is not State.HELD or item.expires <= now:
            return False
        escalation = index.next_escalation(item)
        reminder = index.next_reminder(item, core.settings.remind_after)
        if escalation is not None and escalation <= now:
            await _escalate(core, reading, now)
        elif reminder is not None and reminder <= now:
            await _remind(core, reading, now)
        else:
            return False
        return True

    return await _each(core, due.limit(limit), one)


async def _each(core: Core, due: Select[Any], one: Callable[[str], Awaitable[bool]]) -> int:
    """One that cannot be read must not keep the others."""
    async with core.database.read() as connection:
        found = (await connection.execute(due)).scalars().all()
    count = 0
    problem: StoreError | None = None
    for ident in found:
        try:
            count += await one(ident)
        except Moved:
            continue  # another process did
        except StoreError as error:
            problem = error
    if problem is not None:
        raise problem
    return count


async def _remind(core: Core, reading: Reading, now: datetime) -> None:
    """To everybody who can give an approval that is missing."""
    after = replace(reading.item, reminded=now, version=reading.item.version + 1)
    people = {person for slot in reading.missing() for person in slot.people} - {d.person for d in reading.counting}
    await _write(core, reading, after, Event.REMIND, {person for person in people if reading.helps(person)}, now)


async def _escalate(core: Core, reading: Reading, now: datetime) -> None:
    """To those who can decide only from now on."""
    after = replace(reading.item, escalated=now, version=reading.item.version + 1)
    people = core.needs(after, now).people - reading.needs.people
    await _write(core, reading, after, Event.ESCALATE, set(people), now)


async def _write(core: Core, reading: Reading, after: HeldItem, what: Event, people: set[str], now: datetime) -> None:
    letters = core.post.again(after, core.needs(after, now), people, what, now)
    async with core.staged(letters, after.id) as staged:

        async def work(connection: AsyncConnection) -> None:
            await unchanged(connection, reading)
            changes = index.columns(after, core.settings.remind_after)
            words = ", ".join(sorted(people)) or "nobody"
            await rows.move(connection, reading.item, what, now, GATEWAY, words, **changes)
            await core.send(connection, staged, now)

        await core.database.write(work)
    core.wake.set()
