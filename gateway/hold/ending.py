"""How an item ends without a release: rejected, expired, withdrawn; and what is done about a damaged one.

Refuses to end what has changed since it was read. The message goes back to its sender with the reason where mail rules
allow it; who took it back needs no copy.
"""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.hold import links, rows
from gateway.hold.core import DAMAGE_GRACE, Core
from gateway.hold.letters import Letter
from gateway.hold.post import Ended
from gateway.hold.reading import Reading, record, unchanged
from gateway.hold.rows import Moved
from gateway.hold.states import Event, Impossible
from gateway.hold.values import Decision, HeldItem
from gateway.store.events import GATEWAY, Actor

NAMES = {Event.REJECT: "rejected", Event.EXPIRE: "expired", Event.WITHDRAW: "withdrawn"}
"""What people read."""


@dataclass(frozen=True, slots=True)
class End:
    """Which end, by whom, and why."""

    what: Event
    """REJECT, EXPIRE or WITHDRAW."""
    actor: Actor
    comment: str
    said: Decision | None = None
    link: str = ""
    """Token that is used up by it."""


async def end(core: Core, reading: Reading, how: End) -> None:
    """Write it. Raises Moved when somebody was faster, LinkRefused when the link was used meanwhile."""
    item, now = reading.item, core.clock()
    letters, back = await farewell(core, reading, item, how)
    async with core.staged(letters, item.id, back) as staged:

        async def work(connection: AsyncConnection) -> str:
            await unchanged(connection, reading)
            if how.link:
                await links.spend(connection, how.link, now)
            await rows.move(connection, item, how.what, now, how.actor, how.comment)
            if how.said is not None:
                await record(connection, how.said)
            await core.send(connection, staged, now)
            return await rows.forget(connection, item.message.id)

        gone = await core.database.write(work)
    core.wake.set()
    await core.bodies.remove([gone] if gone else [])


async def farewell(core: Core, reading: Reading, item: HeldItem, how: End) -> tuple[list[Letter], Letter | None]:
    """Letters to whom it concerns, and the return to the sender."""
    ended = Ended(NAMES[how.what], how.actor.name, how.comment)
    people = reading.needs.people if item.asked is not None else frozenset[str]()  # who was not asked is not told
    if how.what is Event.WITHDRAW:
        return core.post.withdrawn(item, people, ended, core.clock()), None
    return core.post.ended(item, people, ended, core.clock(), await core.original(item.message))


async def damage(core: Core, item: HeldItem, why: str) -> None:
    """Mark an item as damaged and tell those who look after the gateway; no harm when somebody was faster."""
    now = core.clock()
    letters = core.post.damaged(item.id, item.message, core.fallback_people(item.message), now)
    try:
        async with core.staged(letters, item.id) as staged:

            async def work(connection: AsyncConnection) -> None:
                expires = max(item.expires, now + DAMAGE_GRACE)
                await rows.move(connection, item, Event.DAMAGE, now, GATEWAY, why, expires=expires)
                await core.send(connection, staged, now)

            await core.database.write(work)
    except (Moved, Impossible):
        return
    core.wake.set()
