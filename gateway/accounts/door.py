"""The way in: password, then the second factor; each step throttled, each success a session under a new secret.

Refuses to tell a wrong password from an unknown or disabled account, by words or by time; and to let strangers who try
passwords keep the person out: a browser in which the person has logged in before shows its mark, and is counted by
itself (OWASP, «Slow Down Online Guessing Attacks with Device Cookies»).
"""

import secrets
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.accounts.core import Core, derived, new_secret, same
from gateway.accounts.passwords import Hashes
from gateway.accounts.people import People, Secrets
from gateway.accounts.sessions import Session, Sessions, Stage, Visit, forgetting
from gateway.accounts.throttle import Throttle, account_key, client_key, code_key, device_key, session_key
from gateway.model.envelope import fold
from gateway.store.tables import account

MAX_NAME = 254
"""Characters of an address (RFC 5321 section 4.5.3.1.3)."""
MARK_LIFE = timedelta(days=180)
"""How long a browser is known."""


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

    async def mark(self, address: str) -> str:
        """What the browser keeps in which this person has just logged in. Nothing is stored of it. Raises StoreError.

        It proves itself by the kept hash of the password, which no client knows, and so ends when the password changes.
        It opens nothing.
        """
        found = await self._people.secrets(fold(address))
        if found is None or not found.password:
            return ""
        note = f"{int(self._core.clock().timestamp())}-{secrets.token_hex(8)}"
        return f"{note}.{derived(found.password, f'mark {note}')}"

    def _note(self, found: Secrets | None, mark: str) -> str:
        """Which of the person's browsers a mark names, ``""`` for a mark that is not the person's, or is over."""
        note, _, proof = mark.partition(".")
        begun = note.partition("-")[0]
        if found is None or not found.password or not (begun.isascii() and begun.isdigit() and len(begun) < 12):
            return ""
        age = self._core.clock().timestamp() - int(begun)
        right = same(proof, derived(found.password, f"mark {note}"))
        return note if right and age < MARK_LIFE.total_seconds() else ""

    async def password(
        self, address: str, password: str, visit: Visit, *, second: bool, old: str = "", mark: str = ""
    ) -> Answer:
        """Log in with a password. ``second``: a second factor must be set up when there is none.

        ``old`` is the secret of a session that the browser still has; it ends. ``mark``: what :meth:`mark` gave to this
        browser. Raises StoreError.
        """
        key = fold(address.strip())[:MAX_NAME]
        found = await self._people.secrets(key)
        note = self._note(found, mark)
        keys = (device_key(key, note),) if note else (account_key(key), client_key(visit.client))
        wait = await self._throttle.attempt(*keys)
        if wait:
            return Answer(Outcome.THROTTLED, wait=wait)
        right = await self._hashes.fits(found.password if found else "", password)
        if found is None or not right or found.disabled:
            return Answer(Outcome.FAILED)
        stage = Stage.CODE if found.totp else Stage.ENROL if second else Stage.FULL
        fresh = await self._hashes.make(password) if self._hashes.outdated(found.password) else found.password
        secret = new_secret()

        async def work(connection: AsyncConnection) -> bool:
            still = (account.c.address == key, account.c.password == found.password, account.c.disabled.is_(None))
            if not (await connection.execute(update(account).where(*still).values(password=fresh))).rowcount:
                return False  # it was changed or disabled in this very moment
            await self._throttle.right(connection, *keys)
            await connection.execute(forgetting(old))
            await self._sessions.add(connection, secret, key, stage, visit)
            return True

        if not await self._core.database.write(work):
            return Answer(Outcome.FAILED)
        return Answer(Outcome.OK, secret, stage)

    async def code(
        self, secret: str, session: Session, code: str, *, is_recovery: bool = False, mark: str = ""
    ) -> Answer:
        """Finish a login whose password was right, by a code of the app or a recovery code. Raises StoreError."""
        note = self._note(await self._people.secrets(session.address), mark)
        key = device_key(session.address, f"code {note}") if note else code_key(session.address)
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

    async def confirm(self, session: Session, password: str) -> Answer:
        """Ask the person who is logged in for the password once more, before something that matters.

        Counted for this session: what strangers try at the door keeps nobody from changing the password.
        """
        key = session_key(session.id)
        wait = await self._throttle.attempt(key)
        if wait:
            return Answer(Outcome.THROTTLED, wait=wait)
        found = await self._people.secrets(session.address)
        if not await self._hashes.fits(found.password if found and not found.disabled else "", password):
            return Answer(Outcome.FAILED)

        async def work(connection: AsyncConnection) -> None:
            await self._throttle.right(connection, key)

        await self._core.database.write(work)
        return Answer(Outcome.OK)
