"""One-time links: what stands in a letter, and what it allows its receiver to do.

A token is 256 random bits; the store keeps its SHA-256 only, so that who reads the database cannot use it. It is bound
to one item, round, message digest and person, and ends with the item. Looking at it changes nothing, as mail scanners
follow links; deciding spends it, in the decision's own transaction. Refuses, each with its own words: what was never
given out, what was used, what is over, what was given for another round or another content.
"""

import hashlib
import re
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import OperatorError
from gateway.hold.states import State
from gateway.hold.values import HeldItem
from gateway.store.tables import link

_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}\Z")
"""32 octets in URL-safe base64 without padding."""
KEPT = timedelta(days=30)
"""So long after its end a link is known, used or not: who follows an old letter reads why nothing is left to do."""


class Purpose(StrEnum):
    """What a link is for."""

    DECIDE = "decide"
    """An approver says yes or no."""
    ATTEST = "attest"
    """The sender confirms what the rule asks, or takes the message back."""


class Problem(StrEnum):
    """Why a link is refused."""

    UNKNOWN = "unknown"
    """Never given out: mistyped, cut off, forged."""
    USED = "used"
    EXPIRED = "expired"
    OVER = "over"
    """The item is decided, or the link is of an earlier round."""
    CHANGED = "changed"
    """The stored message has another digest than the one that the link was given for."""
    PURPOSE = "purpose"
    """A sender's link where an approver's is wanted, or the other way round."""


class LinkRefused(OperatorError):
    """``problem`` says why; the text is for the person who followed the link."""

    def __init__(self, problem: Problem, text: str) -> None:
        super().__init__(text)
        self.problem = problem


@dataclass(frozen=True, slots=True)
class NewLink:
    """A link to be given out with a letter."""

    item: HeldItem
    """As it stands when the letter goes out: the link is bound to its round and digest, and ends with its time."""
    person: str
    """Identity."""
    purpose: Purpose
    token: str = field(repr=False, default_factory=lambda: secrets.token_urlsafe(32))


@dataclass(frozen=True, slots=True)
class Link:
    """A link as the store knows it."""

    id: str
    """SHA-256 of the token, hex."""
    item: str
    round: int
    digest: str
    """SHA-256 of the message that it was given for."""
    person: str
    purpose: Purpose
    created: datetime
    expires: datetime
    used: datetime | None


def fingerprint(token: str) -> str:
    """What the store keeps of a token."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


async def insert_link(connection: AsyncConnection, new: NewLink, now: datetime) -> None:
    """Give it out, inside the transaction that sends its letter."""
    item = new.item
    row = {
        "id": fingerprint(new.token),
        "item": item.id,
        "round": item.round,
        "digest": item.message.sha256,
        "person": new.person,
        "purpose": new.purpose,
        "created": now,
        "expires": item.expires,
        "used": None,
    }
    await connection.execute(insert(link).values(row))


async def find(connection: AsyncConnection, token: str) -> Link:
    """The link of a token; changes nothing. Raises :class:`LinkRefused` when there is none."""
    if _TOKEN.match(token) is not None:
        row = (await connection.execute(select(link).where(link.c.id == fingerprint(token)))).mappings().first()
        if row is not None:
            return _link(row)
    text = "This link is not one that the gateway gave out, or an old one. Copy the whole address from the letter."
    raise LinkRefused(Problem.UNKNOWN, text)


def check(found: Link, item: HeldItem, now: datetime, purpose: Purpose | None = None) -> None:
    """Whether the link can be used for its item now. Raises :class:`LinkRefused`."""
    if purpose is not None and found.purpose is not purpose:
        raise LinkRefused(Problem.PURPOSE, f"This link is not there to {purpose} but to {found.purpose}.")
    if found.digest != item.message.sha256:
        text = f"The stored message of {item.id} is not the one that this link was given for. Nothing can be decided."
        raise LinkRefused(Problem.CHANGED, text)
    if found.used is not None:
        raise LinkRefused(Problem.USED, f"This link was used on {found.used:%Y-%m-%d %H:%M} UTC and works once only.")
    wanted = State.ATTESTING if found.purpose is Purpose.ATTEST else State.HELD
    if item.state is not wanted:
        when = f"{item.changed:%Y-%m-%d %H:%M} UTC"
        raise LinkRefused(Problem.OVER, f"There is nothing left to do: {item.id} is {item.state} since {when}.")
    if found.round != item.round:
        text = f"This link is of an earlier round of {item.id}. A newer letter has the link that counts."
        raise LinkRefused(Problem.OVER, text)
    if found.expires <= now:
        text = f"This link ended on {found.expires:%Y-%m-%d %H:%M} UTC; the message goes back to its sender."
        raise LinkRefused(Problem.EXPIRED, text)


async def forget(connection: AsyncConnection, now: datetime) -> int:
    """Take away links that ended :data:`KEPT` ago; returns how many. Until then they say why they are refused."""
    return (await connection.execute(delete(link).where(link.c.expires < now - KEPT))).rowcount


async def spend(connection: AsyncConnection, token: str, now: datetime) -> None:
    """Use it up, inside the transaction of the decision. Raises :class:`LinkRefused` when somebody was faster."""
    mine = update(link).where(link.c.id == fingerprint(token), link.c.used.is_(None), link.c.expires > now)
    if (await connection.execute(mine.values(used=now))).rowcount != 1:
        raise LinkRefused(Problem.USED, "This link was used a moment ago and works once only.")


async def spend_all(connection: AsyncConnection, item: HeldItem, person: str, now: datetime) -> None:
    """Use up all that a person was given for this round: who has decided needs none of them any more."""
    theirs = (link.c.item == item.id, link.c.round == item.round, link.c.person == person, link.c.used.is_(None))
    await connection.execute(update(link).where(*theirs).values(used=now))


def _link(row: Any) -> Link:
    return Link(**dict(row) | {"purpose": Purpose(row["purpose"])})
