"""Slows down whoever tries passwords: for each account, and for each client address, in the database of all nodes.

An attempt is counted before the password is looked at, so that a thousand at the same instant are a thousand attempts;
what was right is taken back. Refuses to lock anybody out for good: the wait doubles up to a setting, and ends.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.accounts.core import Core, digest
from gateway.store.tables import throttle

FORGOTTEN = timedelta(hours=24)
"""Without another attempt, an account's count begins anew after this."""
CLIENT_FACTOR = 10
"""A client address may fail so many times as often as an account: a whole office may sit behind one."""


def account_key(address: str) -> str:
    """Attempts on an account's password. Names are digested: what strangers type is of any length and content."""
    return f"account:{digest(address)}"


def code_key(address: str) -> str:
    """Attempts on an account's second factor."""
    return f"code:{digest(address)}"


def device_key(address: str, note: str) -> str:
    """Attempts on an account from one browser in which its person has logged in before."""
    return f"device:{digest(f'{address} {note}')}"


def session_key(ident: str) -> str:
    """Attempts of somebody who is logged in to prove the password once more."""
    return f"session:{ident}"


def client_key(client: str) -> str:
    """Attempts of one machine; of one IPv6 network, since each machine has 2^64 addresses."""
    try:
        found = ip_address(client)
    except ValueError:
        return "client:unknown"
    if isinstance(found, IPv6Address):
        return f"client:{found.ipv4_mapped or ip_network((found, 64), strict=False).network_address}"
    return f"client:{found}"


class Throttle:
    """Counts attempts and says how long to wait."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def attempt(self, *keys: str) -> float:
        """Count one attempt under each key; seconds to wait, and nothing counted, when one of them is closed."""
        now = self._core.clock()
        async with self._core.database.read() as connection:  # who is refused writes nothing: mail needs the database
            wait = _wait_of(await _rows(connection, keys), now)
        if wait > 0:
            return wait

        async def work(connection: AsyncConnection) -> float:
            await connection.execute(delete(throttle).where(throttle.c.last < now - FORGOTTEN))
            rows = await _rows(connection, keys)
            wait = _wait_of(rows, now)
            if wait > 0:
                return wait
            for key, row in rows.items():
                count = 1 if row is None or self._quiet(key, row.last, now) else row.failures + 1
                values = {"failures": count, "last": now, "open": now + self._wait(key, count)}
                if row is None:
                    await connection.execute(insert(throttle).values(key=key, **values))
                else:
                    await connection.execute(update(throttle).where(throttle.c.key == key).values(**values))
            return 0.0

        return await self._core.database.write(work)

    async def right(self, connection: AsyncConnection, *keys: str) -> None:
        """The attempt was right, inside the caller's transaction.

        An account's count is forgotten; a client's only loses this attempt, or whoever has an account of his own could
        try those of others for ever.
        """
        for key in keys:
            if key.startswith("client:"):
                fewer = {"failures": throttle.c.failures - 1, "open": throttle.c.last}
                await connection.execute(
                    update(throttle).where(throttle.c.key == key, throttle.c.failures > 0).values(**fewer)
                )
            else:
                await connection.execute(delete(throttle).where(throttle.c.key == key))

    def _quiet(self, key: str, last: datetime, now: datetime) -> bool:
        """Nothing was tried for so long that the count begins anew."""
        longest = timedelta(seconds=self._core.settings.login_wait)
        return now - last >= (2 * longest if key.startswith("client:") else FORGOTTEN)

    def _wait(self, key: str, count: int) -> timedelta:
        """None for the first failures; then 1 s, 2 s, 4 s … up to the setting."""
        settings = self._core.settings
        free = settings.login_attempts * (CLIENT_FACTOR if key.startswith("client:") else 1)
        if count < free:
            return timedelta()
        return timedelta(seconds=min(2.0 ** min(count - free, 30), settings.login_wait))


async def _rows(connection: AsyncConnection, keys: Iterable[str]) -> dict[str, Any]:
    """What is known of each key, None when nothing is."""
    return {key: (await connection.execute(select(throttle).where(throttle.c.key == key))).first() for key in keys}


def _wait_of(rows: Mapping[str, Any], now: datetime) -> float:
    """Seconds until none of them is closed."""
    return max(((row.open - now).total_seconds() for row in rows.values() if row), default=0.0)
