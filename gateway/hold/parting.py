"""Releasing to some recipients: the others are parted from the item, in the same transaction as the approval.

They become an item of their own with the same orders and the approvals that were given before, which were for all: it
stays held, or is rejected at once. Refuses recipients that are not of the item, and to part none or all.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from enum import StrEnum

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import OperatorError
from gateway.hold import index, rows, values
from gateway.hold.asking import asking
from gateway.hold.core import Core, Staged
from gateway.hold.ending import End, farewell
from gateway.hold.reading import Reading, record
from gateway.hold.states import Event
from gateway.hold.values import Decision, HeldItem
from gateway.model.envelope import fold
from gateway.store.events import Actor


class Rest(StrEnum):
    """What becomes of the recipients to whom it is not released."""

    HOLD = "hold"
    """They wait on, as an item of their own."""
    REJECT = "reject"
    """Rejected at once: the sender has it back for them, with the reason."""


@dataclass(frozen=True, slots=True)
class Parting:
    """Two items out of one."""

    kept: HeldItem
    """The item with the recipients to whom it is released, as it stands after the parting."""
    parted: HeldItem
    rest: Rest


def plan(core: Core, reading: Reading, only: Sequence[str], rest: Rest) -> Parting | None:
    """How the item is parted; None when ``only`` are all of its recipients. Raises OperatorError."""
    item = reading.item
    wanted = {fold(address) for address in only}
    kept = tuple(r for r in item.recipients if fold(r.address) in wanted)
    strangers = wanted - {fold(r.address) for r in item.recipients}
    if strangers:
        raise OperatorError(f"{item.id} is not for {', '.join(sorted(strangers))}.")
    if len(kept) == len(item.recipients):
        return None
    others = tuple(r for r in item.recipients if r not in kept)
    ident = f"{item.id}-p{item.version}"  # the version is this item's alone and never comes again
    audience = (len(kept), len(others)) if item.audience == len(item.recipients) else (None, None)
    return Parting(
        replace(item, recipients=kept, audience=audience[0], version=item.version + 1),
        replace(item, id=ident, recipients=others, audience=audience[1], version=1),
        rest,
    )


@asynccontextmanager
async def staged(
    core: Core, reading: Reading, part: Parting | None, said: Decision
) -> AsyncIterator[tuple[list[Staged], Decision | None]]:
    """The letters for the recipients that are parted, and the decision on them."""
    if part is None:
        yield [], None
        return
    if part.rest is Rest.HOLD:
        letters = [one for one in asking(core, part.parted, said.at).letters if not one.to_sender]
        async with core.staged(letters, part.parted.id) as found:
            yield found, None
        return
    no = replace(said, item=part.parted.id, verdict="reject", allow="")
    how = End(Event.REJECT, Actor(said.person, said.os_user), said.comment, no)
    letters, back = await farewell(core, reading, part.parted, how)
    async with core.staged(letters, part.parted.id, back) as found:
        yield found, no


async def write(
    core: Core,
    connection: AsyncConnection,
    reading: Reading,
    part: Parting | None,
    said: Decision,
    parted: tuple[list[Staged], Decision | None],
) -> HeldItem:
    """Part them inside the caller's transaction; returns the item as it stands then. Raises Moved."""
    if part is None:
        return reading.item
    actor, default = Actor(said.person, said.os_user), core.settings.remind_after
    names = ", ".join(recipient.address for recipient in part.parted.recipients)
    changes = {
        "recipients": values.dump(part.kept.recipients),
        "audience": part.kept.audience,
        **index.columns(part.kept, default),
    }
    words = f"not for {names}: {part.parted.id}"
    await rows.move(connection, reading.item, Event.SPLIT, said.at, actor, words, **changes)
    await rows.insert_item(connection, part.parted, actor, f"parted from {part.kept.id}", default, said.at)
    for before in reading.said:
        if before.person != said.person:
            await record(connection, replace(before, item=part.parted.id))
    letters, no = parted
    if no is not None:
        await rows.move(connection, part.parted, Event.REJECT, said.at, actor, said.comment)
        await record(connection, no)
    await core.send(connection, letters, said.at)
    return part.kept
