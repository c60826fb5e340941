"""The way in: password, then the second factor; each step throttled, each success a session under a new secret.

Refuses to tell a wrong password from an unknown or disabled account, by words or by time.
"""

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.accounts.core import Core, new_secret
from gateway.accounts.passwords import Hashes
from gateway.accounts.people import People
from gateway.accounts.sessions import Session, Sessions, Stage, Visit, forgetting
from gateway.accounts.throttle import Throttle, account_key, client_key, code_key
from gateway.model.envelope import fold
from gateway.store.tables import account

MAX_NAME = 254
"""Characters of an address (RFC 5321 section 4.5.3.1.3)."""


class Outcome(StrEnum):
    """What came of an attempt; also the label of the metric."""

    OK = "ok"
    FAILED = "failed"
    THROTTLED = "throttled"


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of one step."""

    outcome: Outcome
    secret: str = ""
    """The new session's, for the browser."""
    stage: Stage = Stage.CODE
    wait: float = 0.0
    """Seconds until the next attempt is looked at."""


class Door:
    """Password and second factor."""

    def __init__(self, core: Core, people: People, sessions: Sessions, throttle: Throttle, hashes: Hashes) -> None:
        self._core, self._people, self._sessions = core, people, sessions
        self._throttle, self._hashes = throttle, hashes

    async def password(self, address: str, password: str, visit: Visit, *, second: bool, old: str = "") -> Answer:
        """Log in with a password. ``second``: a second factor must be set up when there is none.

        ``old`` is the secret of a session that the browser still has; it ends. Raises StoreError.
        """
        key = fold(address.strip())[:MAX_NAME]
        keys = account_key(key), client_key(visit.client)
        wait = await self._throttle.attempt(*keys)
        if wait:
            return Answer(Outcome.THROTTLED, wait=wait)
        found = await self._people.secrets(key)
        right = await self._hashes.fits(found.password if found else "", password)
        if found is None or not right or found.disabled:
            return Answer(Outcome.FAILED)
        stage = Stage.CODE if found.totp else Stage.ENROL if second else Stage.FULL
        fresh = await self._hashes.make(password) if self._hashes.outdated(found.password) else found.password
        secret = new_secret()

        async def work(connection: AsyncConnection) -> bool:
            same = (account.c.address == key, account.c.password == found.password, account.c.disabled.is_(None))
            if not (await connection.execute(update(account).where(*same).values(password=fresh))).rowcount:
                return False  # it was changed or disabled in this very moment
            await self._throttle.right(connection, *keys)
            await connection.execute(forgetting(old))
            await self._sessions.add(connection, secret, key, stage, visit)
            return True

        if not await self._core.database.write(work):
            return Answer(Outcome.FAILED)
        return Answer(Outcome.OK, secret, stage)

    async def code(self, secret: str, session: Session, code: str, *, is_recovery: bool = False) -> Answer:
        """Finish a login whose password was right, by a code of the app or a recovery code. Raises StoreError."""
        key = code_key(session.address)
        wait = await self._throttle.attempt(key)
        if wait:
            return Answer(Outcome.THROTTLED, wait=wait)
        check = self._people.use_recovery if is_recovery else self._people.use_code
        fresh = new_secret()

        async def work(connection: AsyncConnection) -> bool:
            if not await check(connection, session.address, code):
                return False
            await self._throttle.right(connection, key)
            return await self._sessions.replace(connection, secret, fresh, Stage.FULL)

        if not await self._core.database.write(work):
            return Answer(Outcome.FAILED)
        return Answer(Outcome.OK, fresh, Stage.FULL)

    async def confirm(self, session: Session, password: str, client: str) -> Answer:
        """Ask the person who is logged in for the password once more, before something that matters."""
        keys = account_key(session.address), client_key(client)
        wait = await self._throttle.attempt(*keys)
        if wait:
            return Answer(Outcome.THROTTLED, wait=wait)
        found = await self._people.secrets(session.address)
        if not await self._hashes.fits(found.password if found and not found.disabled else "", password):
            return Answer(Outcome.FAILED)

        async def work(connection: AsyncConnection) -> None:
            await self._throttle.right(connection, *keys)

        await self._core.database.write(work)
        return Answer(Outcome.OK)
