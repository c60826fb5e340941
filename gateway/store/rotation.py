"""A new key for the bodies, while gateways run: sealed anew in place, body by body; when it is killed nothing is lost.

The steps, each of which finds what the one before left: the new key is in the key file (it opens, and seals nothing);
the note names it (from now on it seals, on every node); every body is sealed anew; the old key leaves the note, then
the file. Whoever begins again goes on where it ended. Refuses to drop a key that a body may still need.
"""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import select

from gateway.errors import OperatorError, StoreError
from gateway.store.bodies import ORPHAN_AGE, Bodies, Damaged
from gateway.store.database import Database
from gateway.store.keys import VARIABLE, Sealing
from gateway.store.sealing import reseal
from gateway.store.tables import message

STEP = 500
"""Names that are read from the database at once."""
SAFE_AFTER = timedelta(seconds=ORPHAN_AGE)
"""So long after the change of keys nothing that was sealed before it can still be on its way into the database."""


@dataclass(frozen=True, slots=True)
class Resealed:
    """What one run did."""

    key: str
    """Public half of the key that seals."""
    since: datetime | None
    done: int
    """Bodies sealed anew by this run."""
    damaged: tuple[str, ...]
    """Bodies that cannot be opened by any key; left as they are."""
    old: tuple[str, ...]
    """Public halves that are still in the note."""


class Rotation:
    """Changes the key of one store."""

    def __init__(self, database: Database, bodies: Bodies, now: Callable[[], datetime] | None = None) -> None:
        self._database, self._bodies, self._now = database, bodies, now or partial(datetime.now, UTC)

    async def prepare(self) -> str:
        """Put a new key into the key file, for the other nodes to have before :meth:`rotate`. Raises OperatorError."""
        async with self._sole():
            note = await asyncio.to_thread(self._bodies.note, fresh=True)
            unused = [key for key in self._bodies.keys.identities() if key not in {k.public for k in note.keys}]
            return unused[0] if unused else await asyncio.to_thread(self._new_key)

    async def rotate(self) -> Resealed:
        """Bring the new key into use and seal every body anew; goes on with a rotation that was cut short.

        Raises OperatorError, StoreError, OSError.
        """
        async with self._sole():
            target = await asyncio.to_thread(self._promote)
            return await self._reseal_all(target)

    async def drop(self, *, at_once: bool = False) -> Resealed:
        """Take the old keys out of use, and out of the key file. ``at_once``: no gateway runs. Raises OperatorError."""
        async with self._sole():
            note = await asyncio.to_thread(self._bodies.note, fresh=True)
            if len(note.keys) < 2 or note.keys[-1].since is None:
                raise OperatorError("There is one key, and it is in use: «civicgate store rotate-key» makes a new one.")
            target, safe = note.keys[-1], note.keys[-1].since + SAFE_AFTER
            if self._now() < safe and not at_once:
                raise OperatorError(
                    f"Mail sealed with the old key may be on its way into the store until {safe:%Y-%m-%d %H:%M} UTC; "
                    "drop the old key after that, or with --at-once while no gateway runs."
                )
            done = await self._reseal_all(target)
            await asyncio.to_thread(self._nothing_else_needs_old, target, done.damaged)
            await asyncio.to_thread(self._bodies.objects.write_note, str(replace(note, keys=(target,))))
            if not self._bodies.keys.from_environment:
                await asyncio.to_thread(self._bodies.keys.keep, target.public.__eq__)
            return replace(done, old=())

    @asynccontextmanager
    async def _sole(self) -> AsyncIterator[None]:
        async with self._database.kind.sole("rotation") as alone:
            if not alone:
                raise OperatorError("The key is being changed already, by another command.")
            yield

    def _new_key(self) -> str:
        if self._bodies.keys.from_environment:
            raise OperatorError(
                f"The keys are in the variable {VARIABLE}: add a new identity to it on every node (age-keygen makes "
                "one), restart, and say this again."
            )
        return self._bodies.keys.add()

    def _promote(self) -> Sealing:
        """The key that seals from now on: of a rotation under way, or prepared, or new."""
        note = self._bodies.note(fresh=True)
        if len(note.keys) > 1:
            return note.keys[-1]
        unused = [key for key in self._bodies.keys.identities() if key not in {k.public for k in note.keys}]
        target = Sealing(unused[-1] if unused else self._new_key(), self._now().replace(microsecond=0))
        self._bodies.objects.write_note(str(replace(note, keys=(*note.keys, target))))
        return target

    async def _reseal_all(self, target: Sealing) -> Resealed:
        identity = self._bodies.keys.identities().get(target.public)
        if identity is None:
            raise OperatorError(f"{self._bodies.keys.place} lacks {target.public}: copy it from the node that made it.")
        _, lost = await reseal(self._database, self._bodies, identity)
        done, damaged = 0, set(lost)
        while True:
            count, broken = await self._pass(identity)
            done += count
            damaged |= broken
            if not count:
                old = tuple(key.public for key in self._bodies.note(fresh=True).keys if key.public != target.public)
                return Resealed(target.public, target.since, done, tuple(sorted(damaged)), old)

    async def _pass(self, identity: Any) -> tuple[int, set[str]]:
        """Over all bodies that rows name: how many were sealed anew, and which are damaged."""
        count, broken, last = 0, set[str](), ""
        while rows := await self._names(last):
            for name, sha256 in rows:
                try:
                    count += await asyncio.to_thread(self._reseal, name, sha256, identity)
                except Damaged:
                    if await self._is_named(name):
                        broken.add(name)
                else:
                    if not await self._is_named(name):  # it went meanwhile, and must not come back
                        await self._bodies.remove([name])
            last = rows[-1][0]
        return count, broken

    async def _names(self, after: str) -> list[tuple[str, str]]:
        query = select(message.c.body, message.c.sha256).where(message.c.body > after)
        async with self._database.read() as connection:
            found = await connection.execute(query.order_by(message.c.body).limit(STEP))
            return [(row.body, row.sha256) for row in found]

    async def _is_named(self, name: str) -> bool:
        async with self._database.read() as connection:
            return (await connection.execute(select(message.c.id).where(message.c.body == name))).first() is not None

    def _reseal(self, name: str, sha256: str, identity: Any) -> bool:
        """In this thread and one more: what one opens the other seals, through a pipe. Raises StoreError."""
        if self._bodies.opens(name, identity):
            return False
        ends = os.pipe()
        source = _Opened(ends[0])

        def opening() -> None:
            with os.fdopen(ends[1], "wb") as pipe:
                try:
                    self._bodies.get_now(name, sha256, pipe.write)
                    pipe.flush()
                except StoreError as error:
                    source.failure = error  # before the pipe is closed, so that its end is not taken for the body's

        thread = threading.Thread(target=opening)
        thread.start()
        try:
            self._bodies.put_now(name, source, replace=True)
        except StoreError as error:
            raise source.failure or error from error
        finally:
            source.close()
            thread.join()
        return True

    def _nothing_else_needs_old(self, target: Sealing, damaged: tuple[str, ...]) -> None:
        """Also of what no row names (yet) nothing may be sealed for the old key alone. Raises OperatorError."""
        identity = self._bodies.keys.identities()[target.public]
        for name, changed in self._bodies.objects.all():
            if name in damaged or self._now().timestamp() - changed > ORPHAN_AGE:
                continue
            try:
                if not self._bodies.opens(name, identity):
                    raise OperatorError(f"Body {name} was just sealed with the old key; try again in an hour.")
            except Damaged:
                continue


class _Opened:
    """The pipe's reading end; its end is the body's only when opening it has not failed."""

    def __init__(self, handle: int) -> None:
        self._file = os.fdopen(handle, "rb")
        self.failure: StoreError | None = None

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        if not data and self.failure is not None:
            raise self.failure
        return data

    def close(self) -> None:
        self._file.close()
