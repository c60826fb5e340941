"""The accounts as the console and the commands see them: the parts, on one database.

Refuses nothing by itself: each part does.
"""

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import select

from gateway.accounts.core import Core, utc_now
from gateway.accounts.door import Door
from gateway.accounts.passwords import Hashes
from gateway.accounts.people import People
from gateway.accounts.sessions import Sessions
from gateway.accounts.throttle import Throttle
from gateway.accounts.tokens import Tokens
from gateway.model.envelope import fold
from gateway.settings import ConsoleSettings, Settings
from gateway.store import events
from gateway.store.database import Database
from gateway.store.opening import open_database
from gateway.store.sealing import Seal
from gateway.store.tables import account


class Accounts:
    """One process's door to the accounts; any number of processes may have one."""

    def __init__(
        self,
        database: Database,
        settings: ConsoleSettings,
        clock: Callable[[], datetime] = utc_now,
        seal: Seal | None = None,
    ) -> None:
        """``seal``: for second factors; commands, which neither set one up nor ask for one, need none."""
        self.core = Core(database, settings, clock, seal)
        hashes = Hashes()
        self.throttle = Throttle(self.core)
        self.sessions = Sessions(self.core)
        self.people = People(self.core, hashes, self.throttle)
        self.door = Door(self.core, self.people, self.sessions, self.throttle, hashes)
        self.tokens = Tokens(self.core)

    def use(self, settings: ConsoleSettings) -> None:
        """Follow these settings from now on (reload)."""
        self.core.settings = settings

    async def ping(self) -> None:
        """Ask the database something. Raises StoreError."""
        async with self.core.database.read() as connection:
            await connection.execute(select(account.c.address).limit(1))

    async def history(self, address: str) -> tuple[events.Entry, ...]:
        """Everything that happened to an account, oldest first. Raises StoreError."""
        async with self.core.database.read() as connection:
            return await events.entries(connection, f"account:{fold(address)}")

    async def close(self) -> None:
        """Close the database, when it is the accounts' own (:func:`open_accounts`)."""
        await self.core.database.close()


async def open_accounts(settings: Settings, clock: Callable[[], datetime] = utc_now) -> Accounts:
    """The accounts in the store that the settings name; made or migrated when needed. Raises StoreError."""
    return Accounts(await open_database(settings.store), settings.console, clock)
