"""Sessions: who is logged in, since when, from where. They live in the database; the browser has a random secret.

Refuses a session that was idle or lived too long, and one whose account was disabled meanwhile.
"""

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Delete, and_, delete, false, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.accounts.core import Core, digest, new_secret
from gateway.store.events import Actor
from gateway.store.tables import account, session
from gateway.store.text import plain

HALF_LIFE = timedelta(minutes=10)
"""How long somebody who gave the password may take for the second factor."""
_SEEN_STEP = timedelta(seconds=60)
"""A click is written down at most so often."""


_QUERY = select(session, account.c.disabled.label("off"), func.coalesce(account.c.admin, false()).label("admin")).join(
    account, account.c.address == session.c.address, isouter=True
)


class Stage(StrEnum):
    """How far a login has come. Every step gives the browser a new secret (session fixation)."""

    CODE = "code"
    """The password was right; the second factor is awaited."""
    ENROL = "enrol"
    """Logged in but for the second factor that a setting demands: it must be set up first."""
    FULL = "full"


class Method(StrEnum):
    """How somebody logged in."""

    PASSWORD = "password"  # noqa: S105 - a word, not one of ours
    OIDC = "oidc"


@dataclass(frozen=True, slots=True)
class Session:
    """One login of one person in one browser."""

    id: str
    """Public: for lists and for ending it. Knowing it opens nothing."""
    address: str
    method: Method
    stage: Stage
    name: str
    """As the identity provider says, ``""`` for local accounts."""
    roles: frozenset[str]
    """From claims; those of the directory come on top."""
    client: str
    agent: str
    hint: str
    """The ID token, for logging out at the provider."""
    created: datetime
    seen: datetime
    expires: datetime
    admin: bool
    """The account may administer the console."""


@dataclass(frozen=True, slots=True)
class Visit:
    """From where somebody logs in, and with what result."""

    method: Method
    client: str = ""
    agent: str = ""
    name: str = ""
    roles: frozenset[str] = frozenset()
    hint: str = ""


class Sessions:
    """Start, find, promote, end."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def start(self, address: str, stage: Stage, visit: Visit) -> str:
        """A new session; returns the secret for the browser. Raises StoreError."""
        secret = new_secret()

        async def work(connection: AsyncConnection) -> None:
            await self.add(connection, secret, address, stage, visit)

        await self._core.database.write(work)
        return secret

    async def add(
        self, connection: AsyncConnection, secret: str, address: str, stage: Stage, visit: Visit, *, quiet: bool = False
    ) -> None:
        """A new session inside the caller's transaction; those that are over are swept on the way.

        ``quiet``: it goes on with one that was complete already, so that nobody has logged in.
        """
        now, settings = self._core.clock(), self._core.settings
        lifetime = settings.session_lifetime if stage is Stage.FULL else HALF_LIFE
        await connection.execute(delete(session).where(session.c.expires <= now))
        row = {
            "digest": digest(secret),
            "id": secrets.token_hex(8),
            "address": address,
            "method": visit.method,
            "stage": stage,
            "name": plain(visit.name)[:200],
            "roles": orjson.dumps(sorted(visit.roles)).decode(),
            "client": plain(visit.client)[:100],
            "agent": plain(visit.agent)[:300],
            "hint": visit.hint,
            "created": now,
            "seen": now,
            "expires": now + lifetime,
        }
        await connection.execute(insert(session).values(**row))
        if stage is Stage.FULL and not quiet:
            await connection.execute(update(account).where(account.c.address == address).values(last_login=now))
            comment = f"{visit.method} from {visit.client}" if visit.client else str(visit.method)
            await self._core.note(connection, address, "logged-in", Actor(address), comment)

    async def find(self, secret: str) -> Session | None:
        """The session that the secret opens; None when there is none, or no longer. Raises StoreError."""
        core, key = self._core, digest(secret)
        now = core.clock()
        query = _QUERY.where(session.c.digest == key)
        async with core.database.read() as connection:
            row = (await connection.execute(query)).mappings().first()
        if row is None or row["off"] is not None:
            return None
        if now >= row["expires"] or (now - row["seen"]).total_seconds() >= core.settings.session_idle:
            return None
        if now - row["seen"] >= _SEEN_STEP:

            async def work(connection: AsyncConnection) -> None:
                await connection.execute(update(session).where(session.c.digest == key).values(seen=now))

            await core.database.write(work)
        return _session(row)

    async def promote(self, secret: str, stage: Stage) -> str | None:
        """The same person one step further, under a new secret; the old one opens nothing any more.

        None when the old one was gone already: of two promotions at the same instant one wins. Raises StoreError.
        """
        fresh = new_secret()

        async def work(connection: AsyncConnection) -> bool:
            return await self.replace(connection, secret, fresh, stage)

        return fresh if await self._core.database.write(work) else None

    async def replace(self, connection: AsyncConnection, secret: str, fresh: str, stage: Stage) -> bool:
        """:meth:`promote` inside the caller's transaction, to the secret ``fresh``."""
        row = (await connection.execute(_QUERY.where(session.c.digest == digest(secret)))).mappings().first()
        gone = await connection.execute(forgetting(secret))
        if row is None or not gone.rowcount:
            return False
        old = _session(row)
        visit = Visit(old.method, old.client, old.agent, old.name, old.roles, old.hint)
        await self.add(connection, fresh, old.address, stage, visit, quiet=old.stage is Stage.FULL)
        return True

    async def list(self, address: str) -> tuple[Session, ...]:
        """Whoever is logged in as this person, the last click first."""
        now, idle = self._core.clock(), timedelta(seconds=self._core.settings.session_idle)
        query = _QUERY.where(session.c.address == address, session.c.expires > now, session.c.seen > now - idle)
        async with self._core.database.read() as connection:
            rows = (await connection.execute(query.order_by(session.c.seen.desc()))).mappings().all()
        return tuple(_session(row) for row in rows)

    async def counts(self) -> dict[str, int]:
        """How many sessions each person has who is logged in now, also through an identity provider."""
        now, idle = self._core.clock(), timedelta(seconds=self._core.settings.session_idle)
        live = (session.c.expires > now, session.c.seen > now - idle, session.c.stage == Stage.FULL)
        query = select(session.c.address, func.count()).where(*live).group_by(session.c.address)
        async with self._core.database.read() as connection:
            return {row[0]: row[1] for row in await connection.execute(query)}

    async def end(self, address: str, ident: str, actor: Actor) -> bool:
        """End one session of a person, by its public id; False when the person has no such session."""
        return await self._end(address, and_(session.c.address == address, session.c.id == ident), actor, "logged-out")

    async def end_all(self, address: str, actor: Actor, but: str = "") -> bool:
        """End all sessions of a person, all ``but`` one."""
        which = and_(session.c.address == address, session.c.id != but)
        return await self._end(address, which, actor, "sessions-ended")

    async def _end(self, address: str, which: ColumnElement[bool], actor: Actor, name: str) -> bool:
        async def work(connection: AsyncConnection) -> bool:
            if not (await connection.execute(delete(session).where(which))).rowcount:
                return False
            await self._core.note(connection, address, name, actor)
            return True

        return await self._core.database.write(work)


def forgetting(secret: str) -> Delete:
    """The statement that ends one session by its secret."""
    return delete(session).where(session.c.digest == digest(secret))


def ending(address: str, but: str = "") -> Delete:
    """The statement that ends all sessions of a person, for transactions of other parts."""
    return delete(session).where(session.c.address == address, session.c.id != but)


def _session(row: Any) -> Session:
    names: Iterable[str] = (name for name in Session.__slots__ if name not in ("method", "stage", "roles", "admin"))
    return Session(
        method=Method(row["method"]),
        stage=Stage(row["stage"]),
        roles=frozenset(orjson.loads(row["roles"])),
        admin=bool(row["admin"]),
        **{name: row[name] for name in names},
    )
