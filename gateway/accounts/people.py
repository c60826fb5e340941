"""Local accounts: who has one, its password, its second factor, its one-time link for setting a password.

Refuses whatever would leave a trace missing: every change is one transaction with its event. A changed password, a
reset second factor and a disabled account end the person's sessions.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.accounts import passwords, totp
from gateway.accounts.core import Core, digest, new_secret
from gateway.accounts.passwords import Hashes
from gateway.accounts.sessions import ending
from gateway.accounts.throttle import Throttle, account_key, code_key
from gateway.errors import OperatorError, StoreError
from gateway.model.envelope import fold
from gateway.store.events import Actor
from gateway.store.sealing import Seal, totp_of
from gateway.store.tables import account, recovery

LINK_LIFE = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Account:
    """One account, without its secrets."""

    address: str
    admin: bool
    has_password: bool
    has_totp: bool
    recovery_codes: int
    """Unused ones."""
    created: datetime
    password_changed: datetime | None
    last_login: datetime | None
    disabled: datetime | None


@dataclass(frozen=True, slots=True)
class Secrets:
    """What a login is compared with. Never leaves this package."""

    address: str
    password: str
    totp: str
    """Sealed."""
    totp_step: int
    disabled: bool


@dataclass(frozen=True, slots=True)
class Administrators:
    """Who administers the console beside the accounts that are made so."""

    holders: frozenset[str]
    """Addresses, folded, that have ``console.admin_role`` in the directory."""
    provider: bool
    """People log in through an identity provider, too: without an account, or without a password of ours."""


class People:
    """Add, list, change."""

    def __init__(self, core: Core, hashes: Hashes, throttle: Throttle) -> None:
        self._core, self._hashes, self._throttle = core, hashes, throttle

    async def add(self, address: str, actor: Actor, *, admin: bool = False) -> Account:
        """A new account without a password: nobody can log in with it yet. Raises OperatorError, StoreError."""
        key = fold(address)
        if not re.fullmatch(r"[^\s@<>]+@[^\s@<>]+", key) or not key.isprintable():
            raise OperatorError(f"«{address}» is not an address like clerk@city.example.")
        now = self._core.clock()

        async def work(connection: AsyncConnection) -> None:
            if await _secrets(connection, key) is not None:
                raise OperatorError(f"There is an account {key} already.")
            empty = {"password": "", "totp": "", "totp_step": 0, "setup": ""}
            await connection.execute(insert(account).values(address=key, admin=admin, created=now, **empty))
            await self._core.note(connection, key, "account-added", actor, "administrator" if admin else "")

        await self._core.database.write(work)
        return await self.get(key)

    async def get(self, address: str) -> Account:
        """One account. Raises OperatorError."""
        found = await self._read(account.c.address == fold(address))
        if not found:
            raise OperatorError(f"There is no account {address}.")
        return found[0]

    async def find(self, address: str) -> Account | None:
        """One account, or None."""
        found = await self._read(account.c.address == fold(address))
        return found[0] if found else None

    async def list(self) -> tuple[Account, ...]:
        """All accounts, by address."""
        return await self._read(account.c.address != "")

    async def _read(self, which: Any) -> tuple[Account, ...]:
        codes = select(func.count()).select_from(recovery).where(recovery.c.address == account.c.address)
        query = select(account, codes.scalar_subquery().label("codes")).where(which).order_by(account.c.address)
        async with self._core.database.read() as connection:
            rows = (await connection.execute(query)).all()
        return tuple(
            Account(
                row.address, row.admin, bool(row.password), bool(row.totp), row.codes, row.created,
                row.password_changed, row.last_login, row.disabled,
            )
            for row in rows
        )  # fmt: skip

    async def set_password(self, address: str, password: str, actor: Actor, keep: str = "") -> None:
        """A new password; all sessions but ``keep`` end. Raises OperatorError for one that is not to be used."""
        key = fold(address)
        passwords.check(password, key, self._core.settings.password_length)
        kept = await self._hashes.make(password)

        async def work(connection: AsyncConnection) -> None:
            await self._put_password(connection, key, kept, actor, keep)

        await self._core.database.write(work)

    async def _put_password(
        self, connection: AsyncConnection, key: str, kept: str, actor: Actor, keep: str = ""
    ) -> None:
        values = {"password": kept, "password_changed": self._core.clock(), "setup": "", "setup_expires": None}
        await self._change(connection, key, values)
        await connection.execute(ending(key, keep))
        await self._throttle.right(connection, account_key(key), code_key(key))
        await self._core.note(connection, key, "password-set", actor)

    async def make_link(self, address: str, actor: Actor) -> tuple[str, datetime]:
        """The secret of a link with which the person sets a password, once, and when it ends. An older link dies."""
        key, secret = fold(address), new_secret()
        expires = self._core.clock() + LINK_LIFE

        async def work(connection: AsyncConnection) -> None:
            await self._change(connection, key, {"setup": digest(secret), "setup_expires": expires})
            await self._core.note(connection, key, "setup-link-made", actor)

        await self._core.database.write(work)
        return secret, expires

    async def by_link(self, secret: str) -> str:
        """Whose link it is; ``""`` when it is used, over, or of nobody. Raises StoreError."""
        async with self._core.database.read() as connection:
            return await self._linked(connection, secret)

    async def _linked(self, connection: AsyncConnection, secret: str) -> str:
        still = account.c.setup_expires > self._core.clock()
        query = select(account.c.address).where(account.c.setup == digest(secret), still, account.c.disabled.is_(None))
        return str((await connection.execute(query)).scalar() or "")

    async def use_link(self, secret: str, password: str, origin: str) -> str:
        """Set the password through the link; whose it was. Raises OperatorError. A link works once."""
        address = await self.by_link(secret)
        if not address:
            raise OperatorError("This link was used already, or is over. Ask for another one.")
        passwords.check(password, address, self._core.settings.password_length)
        kept = await self._hashes.make(password)

        async def work(connection: AsyncConnection) -> None:
            if await self._linked(connection, secret) != address:
                raise OperatorError("This link was used already, or is over. Ask for another one.")
            await self._put_password(connection, address, kept, Actor(address, origin))

        await self._core.database.write(work)
        return address

    async def disable(self, address: str, actor: Actor) -> Account:
        """Nobody logs in with it any more, by password or OpenID Connect; sessions and tokens stop at once."""

        async def work(connection: AsyncConnection) -> None:
            key = fold(address)
            await self._change(connection, key, {"disabled": self._core.clock(), "setup": "", "setup_expires": None})
            await connection.execute(ending(key))
            await self._core.note(connection, key, "account-disabled", actor)

        await self._core.database.write(work)
        return await self.get(address)

    async def enable(self, address: str, actor: Actor) -> Account:
        """The opposite."""

        async def work(connection: AsyncConnection) -> None:
            await self._change(connection, fold(address), {"disabled": None})
            await self._core.note(connection, fold(address), "account-enabled", actor)

        await self._core.database.write(work)
        return await self.get(address)

    async def grant_admin(self, address: str, actor: Actor) -> Account:
        """The account administers the console, from its next page on. Raises OperatorError, StoreError."""

        async def work(connection: AsyncConnection) -> None:
            await self._put_admin(connection, fold(address), actor, admin=True)

        await self._core.database.write(work)
        return await self.get(address)

    async def revoke_admin(self, address: str, actor: Actor, others: Administrators) -> Account:
        """The opposite; a role of the directory stays. Raises OperatorError when nobody could administer then."""
        key = fold(address)

        async def work(connection: AsyncConnection) -> None:
            rows = (await connection.execute(select(account))).all()
            able = {row.address for row in rows if row.disabled is None and (row.password or others.provider)}
            barred = {row.address for row in rows if row.disabled is not None}
            named = {row.address for row in rows if row.admin and row.address != key} & able
            held = others.holders - barred if others.provider else others.holders & able
            if key in able and not (named | held):
                raise OperatorError(
                    f"{key} is the last who can administer the console. Make another administrator first: civicgate "
                    "users grant-admin ADDRESS."
                )
            await self._put_admin(connection, key, actor, admin=False)

        await self._core.database.write(work)
        return await self.get(address)

    async def _put_admin(self, connection: AsyncConnection, key: str, actor: Actor, *, admin: bool) -> None:
        """Set it, with an event when it was otherwise."""
        which = select(account.c.admin).where(account.c.address == key)
        before = (await connection.execute(which)).scalar_one_or_none()
        await self._change(connection, key, {"admin": admin})
        if before is not admin:
            await self._core.note(connection, key, "admin-granted" if admin else "admin-revoked", actor)

    async def enrol(self, address: str, secret: str, code: str, actor: Actor) -> tuple[str, ...]:
        """Take ``secret`` as second factor when ``code`` proves that the person's app has it; the recovery codes.

        Raises OperatorError. The codes are shown this once.
        """
        key, now = fold(address), self._core.clock()
        step = totp.matching_step(secret, code, now, 0)
        if step is None:
            raise OperatorError("The code is not right. Does your phone show the right time?")
        codes = tuple(totp.recovery_code() for _ in range(totp.RECOVERY_CODES))
        kept = await self._seal().close(secret, totp_of(key))

        async def work(connection: AsyncConnection) -> None:
            await self._change(connection, key, {"totp": kept, "totp_step": step})
            await connection.execute(delete(recovery).where(recovery.c.address == key))
            rows = [{"address": key, "digest": digest(totp.plain_recovery(one))} for one in codes]
            await connection.execute(insert(recovery), rows)
            await self._core.note(connection, key, "totp-enrolled", actor)

        await self._core.database.write(work)
        return codes

    async def reset_totp(self, address: str, actor: Actor) -> Account:
        """Take the second factor away (the phone is lost); sessions end."""

        async def work(connection: AsyncConnection) -> None:
            key = fold(address)
            await self._change(connection, key, {"totp": "", "totp_step": 0})
            await connection.execute(delete(recovery).where(recovery.c.address == key))
            await connection.execute(ending(key))
            await self._throttle.right(connection, code_key(key))
            await self._core.note(connection, key, "totp-reset", actor)

        await self._core.database.write(work)
        return await self.get(address)

    async def new_codes(self, address: str, actor: Actor) -> tuple[str, ...]:
        """Recovery codes in the place of those that there were; shown this once. Raises OperatorError, StoreError."""
        key = fold(address)
        codes = tuple(totp.recovery_code() for _ in range(totp.RECOVERY_CODES))

        async def work(connection: AsyncConnection) -> None:
            found = await _secrets(connection, key)
            if found is None or not found.totp:
                raise OperatorError("Recovery codes go with a second factor, and there is none.")
            await connection.execute(delete(recovery).where(recovery.c.address == key))
            rows = [{"address": key, "digest": digest(totp.plain_recovery(one))} for one in codes]
            await connection.execute(insert(recovery), rows)
            await self._core.note(connection, key, "recovery-codes-made", actor)

        await self._core.database.write(work)
        return codes

    async def secrets(self, address: str) -> Secrets | None:
        """For comparing a login with; None when there is no such account."""
        async with self._core.database.read() as connection:
            return await _secrets(connection, fold(address))

    async def use_code(self, connection: AsyncConnection, address: str, code: str) -> bool:
        """Whether the code is right and was not used before, inside the caller's transaction, which marks it used."""
        found = await _secrets(connection, address)
        if found is None or not found.totp or found.disabled:
            return False
        kept = self._seal().open(found.totp, totp_of(found.address))
        step = totp.matching_step(kept, code, self._core.clock(), found.totp_step)
        if step is None:
            return False
        later = update(account).where(account.c.address == address, account.c.totp_step < step)
        return bool((await connection.execute(later.values(totp_step=step))).rowcount)

    async def use_recovery(self, connection: AsyncConnection, address: str, code: str) -> bool:
        """Whether it is an unused recovery code, inside the caller's transaction, which uses it up."""
        which = (recovery.c.address == address, recovery.c.digest == digest(totp.plain_recovery(code)))
        if not (await connection.execute(delete(recovery).where(*which))).rowcount:
            return False
        await self._core.note(connection, address, "recovery-code-used", Actor(address))
        return True

    def _seal(self) -> Seal:
        if self._core.seal is None:
            raise StoreError("second factors need the store's key, which was not opened here")
        return self._core.seal

    async def _change(self, connection: AsyncConnection, key: str, values: dict[str, Any]) -> None:
        done = await connection.execute(update(account).where(account.c.address == key).values(**values))
        if not done.rowcount:
            raise OperatorError(f"There is no account {key}.")


async def _secrets(connection: AsyncConnection, key: str) -> Secrets | None:
    row = (await connection.execute(select(account).where(account.c.address == key))).first()
    if row is None:
        return None
    return Secrets(row.address, row.password, row.totp, row.totp_step, row.disabled is not None)
