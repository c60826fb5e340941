"""Marks on mail that leaves us: header fields by which we know our own mail again when it comes back.

A mark is an HMAC over what it is given for, the time, and size and digest of the content as it left. Refuses a mark
that we did not make, one of another content (also with a field put on top that is no trace), and an old one.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.hold.core import Core
from gateway.store.sealing import Seal, secret_of
from gateway.store.tables import secret

AHEAD = timedelta(minutes=5)
"""By which another node's clock may be ahead."""
_MOST_ABOVE = 65_536
_VALUE = re.compile(
    r"([A-Za-z0-9][A-Za-z0-9._-]{0,150}); t=(\d{1,12}); n=(\d{1,15}); h=([0-9a-f]{64}); m=([0-9a-f]{64})\Z"
)
_TRACE = re.compile(
    rb"(?:(?:received|return-path|delivered-to|x-original-to|received-spf|dkim-signature|authentication-results"
    rb"|arc-[a-z-]{1,40}|message-id|x-civicgate-[a-z-]{1,40})[ \t]*:[^\n]*\n(?:[ \t][^\n]*\n)*)*\Z",
    re.IGNORECASE,
)
"""What mail servers and we put on top (RFC 5321 section 4.4, RFC 6376, 6409, 8601, 8617): nothing that people see."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A message that carries a mark."""

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


@dataclass(frozen=True, slots=True)
class Mark:
    """A field's value taken apart. Not believed."""

    ident: str
    """What it is given for, or a number used once."""
    when: int
    """Seconds since 1970."""
    size: int
    sha256: str
    mac: str


def read(value: str) -> Mark | None:
    """The mark, None for what is none."""
    found = _VALUE.match(" ".join(value.split()))
    return Mark(found[1], int(found[2]), int(found[3]), found[4], found[5]) if found is not None else None


class Marks:
    """One kind of mark, with a key of its own that every node of the store reads."""

    def __init__(self, core: Core, kind: str, good_for: timedelta) -> None:
        """``kind``: one word; a mark of one kind is none of another."""
        self._core = core
        self._kind = kind
        self._good_for = good_for
        self._key: bytes | None = None

    async def write(self, ident: str, size: int, sha256: str, more: Sequence[str]) -> str:
        """The field's value, folded, for content of that size and digest. ``more`` is sealed too. Raises StoreError."""
        when = int(self._core.clock().timestamp())
        mac = await self._mac(Mark(ident, when, size, sha256, ""), more)
        return f"{ident};\r\n\tt={when}; n={size};\r\n\th={sha256};\r\n\tm={mac}"

    async def proves(self, mark: Mark, claim: Claim, more: Sequence[str]) -> bool:
        """Whether we made it, lately, of this content and with ``more``. Raises StoreError."""
        if not hmac.compare_digest(mark.mac, await self._mac(mark, more)):
            return False
        now, above = self._core.clock(), claim.size - mark.size
        fresh = now - self._good_for <= datetime.fromtimestamp(mark.when, now.tzinfo) <= now + AHEAD
        traces = 0 < above <= _MOST_ABOVE and _TRACE.match(claim.head(above)) is not None
        return fresh and traces and await claim.digest(mark.size) == mark.sha256

    async def _mac(self, mark: Mark, more: Sequence[str]) -> str:
        if self._key is None:
            self._key = await self._shared()
        parts = (f"civicgate {self._kind}", mark.ident, str(mark.when), str(mark.size), mark.sha256, *more)
        return hmac.new(self._key, "\0".join(parts).encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()

    async def _shared(self) -> bytes:
        """The key of this store, made at its first use."""
        query, seal = select(secret.c.value).where(secret.c.name == self._kind), Seal(self._core.bodies)
        fresh = await seal.close(secrets.token_hex(32), secret_of(self._kind))

        async def work(connection: AsyncConnection) -> str:
            known = (await connection.execute(query)).scalar()
            if known is None:
                known = fresh
                await connection.execute(insert(secret).values(name=self._kind, value=known))
            return str(known)

        return bytes.fromhex(seal.open(await self._core.database.write(work), secret_of(self._kind)))
