"""From settings to an open store: which database, and where its bodies are.

Refuses bodies that are another database's: what no row names would be swept, and what rows name would look lost.
"""

import asyncio
import os
import secrets
from dataclasses import replace
from pathlib import Path

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import StoreError
from gateway.settings import StoreSettings
from gateway.store.bodies import Bodies, Damaged
from gateway.store.database import Database
from gateway.store.keys import KeyRing, Note
from gateway.store.postgres import Server
from gateway.store.sealing import seal_old
from gateway.store.tables import message, store

PASSWORD = "CIVICGATE_DATABASE_PASSWORD"  # noqa: S105 - the variable's name
BODIES, MOVED = "bodies", "moved"
"""Rows of the table ``store``: id of the place of the bodies; the database that has taken this one's place."""


def place(settings: StoreSettings) -> Path | Server:
    """The database that the settings name, with its password. Raises StoreError when the password cannot be read."""
    if settings.database == "sqlite":
        return settings.directory / "store.db"
    return server(settings.database, settings.password_file)


def server(url: str, password_file: Path | None) -> Server:
    """A PostgreSQL server with its password, from the file or else the environment. Raises StoreError."""
    if password_file is None:
        return Server(url, os.environ.get(PASSWORD, ""))
    try:
        return Server(url, password_file.read_text().strip("\r\n"))
    except (OSError, UnicodeError) as error:
        raise StoreError(f"the database's password cannot be read: {error}") from error


async def open_database(settings: StoreSettings, busy_timeout: float = 10.0) -> Database:
    """Open, make or migrate the settings' database. Raises StoreError."""
    database = await Database.open(place(settings), busy_timeout)
    try:
        async with database.read() as connection:
            moved = await _fact(connection, MOVED)
        if moved is not None:
            raise StoreError(
                f"{database.kind.place} was copied to {moved}: set store.database, or start with a new one"
            )
    except BaseException:
        await database.close()
        raise
    return database


def open_bodies(settings: StoreSettings) -> Bodies:
    """Open, or make, the settings' place of bodies; blocks. Raises StoreError."""
    if settings.bodies == "local":
        return Bodies.local(settings.directory / "bodies", settings.key_file)
    from gateway.store.s3 import Bucket  # noqa: PLC0415 - obstore is large, and only this needs it

    return Bodies(Bucket(settings), KeyRing(settings.key_file))


async def open_store(settings: StoreSettings, busy_timeout: float = 10.0) -> tuple[Database, Bodies]:
    """Both, when they belong together. Raises StoreError."""
    database = await open_database(settings, busy_timeout)
    try:
        bodies = await asyncio.to_thread(open_bodies, settings)
        await join(database, bodies)
        await seal_old(database, bodies)
    except BaseException:
        await database.close()
        raise
    return database, bodies


async def join(database: Database, bodies: Bodies) -> None:
    """See that the bodies are this database's; two that are new become one store. Raises StoreError."""
    try:
        note = await asyncio.to_thread(bodies.note, fresh=True)
        async with database.read() as connection:
            ident = await _fact(connection, BODIES)
        if ident is None or not note.store:
            await _acquaint(database, bodies, note, ident)
        elif ident != note.store:
            raise StoreError(f"the bodies in {bodies.objects.place} are of another database than {database.kind.place}")
    except OSError as error:
        raise StoreError(f"the bodies' place {bodies.objects.place} cannot be read: {error}") from error


async def _acquaint(database: Database, bodies: Bodies, note: Note, ident: str | None) -> None:
    """One of the two does not know the other yet: a first start, or one of an older version."""
    async with database.read() as connection:
        first = (await connection.execute(select(message.c.body, message.c.id).order_by(message.c.body.desc()))).first()
    if first is not None and first.body and not await asyncio.to_thread(_has, bodies, first.body):
        raise StoreError(f"{bodies.objects.place} does not hold the bodies that {database.kind.place} names")
    if first is None and ident is None and await asyncio.to_thread(lambda: any(bodies.objects.all())):
        raise StoreError(
            f"{bodies.objects.place} holds bodies, and {database.kind.place} is new and names none of them: "
            "copy the old database (civicgate store copy), or give the new one an empty place"
        )
    chosen = note.store or secrets.token_hex(16)

    async def work(connection: AsyncConnection) -> str:
        found = await _fact(connection, BODIES)
        if found is None:
            await connection.execute(insert(store).values(name=BODIES, value=chosen))
        return found or chosen

    chosen = await database.write(work)
    if note.store and note.store != chosen:
        raise StoreError(f"the bodies in {bodies.objects.place} are of another database than {database.kind.place}")
    if not note.store:
        await asyncio.to_thread(bodies.objects.write_note, str(replace(note, store=chosen)))


def _has(bodies: Bodies, name: str) -> bool:
    try:
        with bodies.objects.open(name):
            return True
    except (FileNotFoundError, Damaged):
        return False


async def _fact(connection: AsyncConnection, name: str) -> str | None:
    return (await connection.execute(select(store.c.value).where(store.c.name == name))).scalar()
