"""Is the store whole: database, chain of events, keys, and every body that a row names.

Changes nothing, and may run while gateways do. Refuses to call a body good that it has not opened to its end.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from sqlalchemy import select

from gateway.errors import StoreError
from gateway.store import events
from gateway.store.bodies import Bodies, Damaged
from gateway.store.database import Database
from gateway.store.tables import message

STEP = 500
LISTED = 20
"""Ids that are named in one line."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One thing that was looked at."""

    name: str
    good: bool
    text: str
    ids: tuple[str, ...] = ()
    """Messages it is about."""


async def check(database: Database, bodies: Bodies, *, quick: bool = False) -> AsyncIterator[Answer]:
    """Look at everything, in an order in which the first bad answer explains the later ones.

    ``quick``: only that each body is there and that a key opens its beginning.
    """
    yield Answer("database", True, f"{database.kind.place} answers, and has the schema of this version")
    yield await _chain(database)
    yield await asyncio.to_thread(_keys, bodies)
    yield await _bodies(database, bodies, quick=quick)


async def _chain(database: Database) -> Answer:
    try:
        async with database.read() as connection:
            count, last = await events.verify(connection)
    except StoreError as error:
        return Answer("events", False, error.detail)
    return Answer("events", True, f"{count} events, unbroken; the last one's hash is {last}")


def _keys(bodies: Bodies) -> Answer:
    note = bodies.note(fresh=True)
    sealing = note.keys[-1].public if note.keys else ""
    if sealing not in bodies.keys.identities():
        return Answer("keys", False, f"{bodies.keys.place} lacks {sealing or 'the key'}, which seals new mail")
    old = len(note.keys) - 1
    more = f"; {old} older still in use (civicgate store rotate-key --drop-old)" if old else ""
    return Answer("keys", True, f"{sealing} seals{more}")


async def _bodies(database: Database, bodies: Bodies, *, quick: bool) -> Answer:
    count, last = 0, ""
    problems: dict[str, str] = {}
    while True:
        query = select(message.c.id, message.c.body, message.c.sha256).where(message.c.body > last)
        async with database.read() as connection:
            rows = (await connection.execute(query.order_by(message.c.body).limit(STEP))).all()
        if not rows:
            break
        for ident, name, sha256 in rows:
            problem = await asyncio.to_thread(_problem, bodies, name, sha256, quick=quick)
            if not problem:
                count += 1
            elif await _is_named(database, name):  # else it was delivered or decided meanwhile
                problems[ident] = problem
        last = rows[-1].body
    if not problems:
        return Answer("bodies", True, f"{count} bodies that are needed are there and open")
    first = "; ".join(f"{ident}: {why}" for ident, why in list(problems.items())[:LISTED])
    return Answer(
        "bodies", False, f"{len(problems)} of {count + len(problems)} cannot be used: {first}", tuple(problems)
    )


def _problem(bodies: Bodies, name: str, sha256: str, *, quick: bool) -> str:
    try:
        if quick:
            opens = any(bodies.opens(name, key) for key in bodies.keys.identities().values())
            return "" if opens else "no key opens it"
        bodies.get_now(name, sha256, len)
    except Damaged as error:
        return f"damaged ({error.detail})"
    except StoreError as error:
        return error.detail
    return ""


async def _is_named(database: Database, name: str) -> bool:
    async with database.read() as connection:
        return (await connection.execute(select(message.c.id).where(message.c.body == name))).first() is not None
