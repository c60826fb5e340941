"""The mark on released mail by which the gateway knows it again: what was approved is not held again by the same rules.

A next hop may route a release through the gateway once more. The mark is a header field with an HMAC over the item, the
rules that held it, the time, and size and digest of the content as it left. Refuses a mark that we did not make, one
of another content (also with a field put on top that is no trace), for other recipients or another sender, of an item
that is not released, and an old one: then the message is held like any other.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import OperatorError
from gateway.hold import rows
from gateway.hold.core import Core
from gateway.hold.states import State
from gateway.hold.values import HeldItem
from gateway.model.envelope import fold
from gateway.model.verdict import Disposition, Mode
from gateway.store.tables import secret

FIELD = "X-Civicgate-Release-Proof"
GOOD_FOR = timedelta(days=7)
"""Longer than the outbox tries to deliver."""
AHEAD = timedelta(minutes=5)
"""By which another node's clock may be ahead."""
_NAME = "release-proof"
_VALUE = re.compile(
    r"([A-Za-z0-9][A-Za-z0-9._-]{0,150}); t=(\d{1,12}); n=(\d{1,15}); h=([0-9a-f]{64}); m=([0-9a-f]{64})\Z"
)
_TRACE = re.compile(
    rb"(?:(?:received|return-path|delivered-to|x-original-to|received-spf|dkim-signature|authentication-results"
    rb"|arc-[a-z-]{1,40}|x-civicgate-[a-z-]{1,40})[ \t]*:[^\n]*\n(?:[ \t][^\n]*\n)*)*\Z",
    re.IGNORECASE,
)
"""What mail servers and we put on top (RFC 5321 section 4.4, RFC 6376, 8601, 8617): nothing that people see."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A message that says it was released before."""

    value: str
    """Of the field."""
    reverse_path: str
    recipients: tuple[str, ...]
    size: int
    """Octets of the whole message."""
    head: Callable[[int], bytes]
    """The first so many octets."""
    digest: Callable[[int], Awaitable[str]]
    """SHA-256 (hex) of the last so many octets."""


class Prover:
    """Makes marks and knows them again."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._key: bytes | None = None

    async def field(self, ident: str, size: int, sha256: str) -> tuple[str, str]:
        """Name and value (folded) of the mark for content that leaves. Raises StoreError, OperatorError."""
        async with self._core.database.read() as connection:
            item = await rows.item_by_id(connection, ident)
        when = int(self._core.clock().timestamp())
        mac = _mac(await self._secret(), item, when, size, sha256)
        return FIELD, f"{ident};\r\n\tt={when}; n={size};\r\n\th={sha256};\r\n\tm={mac}"

    async def rules(self, claim: Claim) -> frozenset[str]:
        """Ids of the rules that may not hold it again; none for a mark that proves nothing. Raises StoreError."""
        found = _VALUE.match(" ".join(claim.value.split()))
        if found is None:
            return frozenset()
        ident, when, size, sha256, mac = found[1], int(found[2]), int(found[3]), found[4], found[5]
        try:
            async with self._core.database.read() as connection:
                item = await rows.item_by_id(connection, ident)
        except OperatorError:
            return frozenset()
        if not hmac.compare_digest(mac, _mac(await self._secret(), item, when, size, sha256)):
            return frozenset()
        if not _fits(claim, item, size) or not self._fresh(when) or await claim.digest(size) != sha256:
            return frozenset()
        return held_by(item)

    def _fresh(self, when: int) -> bool:
        now = self._core.clock()
        made = datetime.fromtimestamp(when, now.tzinfo)
        return now - GOOD_FOR <= made <= now + AHEAD

    async def _secret(self) -> bytes:
        if self._key is None:
            self._key = await shared_secret(self._core, _NAME)
        return self._key


async def shared_secret(core: Core, name: str) -> bytes:
    """One of this store, made at its first use; every node reads the same. Raises StoreError."""
    query = select(secret.c.value).where(secret.c.name == name)

    async def work(connection: AsyncConnection) -> str:
        known = (await connection.execute(query)).scalar()
        if known is None:
            known = secrets.token_hex(32)
            await connection.execute(insert(secret).values(name=name, value=known))
        return str(known)

    return bytes.fromhex(await core.database.write(work))


def held_by(item: HeldItem) -> frozenset[str]:
    """The rules that held it: whose orders were approved, in this round and in those before."""
    matched = (m.rule for m in item.matches if m.mode is Mode.ENFORCE and m.disposition is Disposition.HOLD)
    return frozenset([*(order.rule for order in item.orders), *matched])


def _fits(claim: Claim, item: HeldItem, size: int) -> bool:
    """Whether it goes where it was released to, as it was, with nothing but traces on top."""
    released = item.state in (State.APPROVED, State.RELEASING, State.RELEASED)
    same = fold(claim.reverse_path) == fold(item.message.reverse_path)
    to = {fold(recipient.address) for recipient in item.recipients}
    if not (released and same and claim.recipients and all(fold(address) in to for address in claim.recipients)):
        return False
    return only_traces_above(claim, size)


def only_traces_above(claim: Claim, size: int) -> bool:
    """Whether nothing that people see stands above the last ``size`` octets."""
    above = claim.size - size
    return 0 < above <= 65_536 and _TRACE.match(claim.head(above)) is not None


def _mac(key: bytes, item: HeldItem, when: int, size: int, sha256: str) -> str:
    parts = ("civicgate release", item.id, str(when), str(size), sha256, *sorted(held_by(item)))
    return hmac.new(key, "\0".join(parts).encode(), hashlib.sha256).hexdigest()
