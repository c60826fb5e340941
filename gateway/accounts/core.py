"""What every part of the accounts stands on: database, settings, clock; secrets and their digests.

Refuses to keep a secret that a stranger could have chosen: whatever is stored as a plain digest has 256 random bits.
"""

import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.settings import ConsoleSettings
from gateway.store import events
from gateway.store.database import Database
from gateway.store.events import Actor
from gateway.store.sealing import Seal


def utc_now() -> datetime:
    """The clock."""
    return datetime.now(UTC)


@dataclass(slots=True)
class Core:
    """Shared by the parts; ``settings`` is replaced on reload."""

    database: Database
    settings: ConsoleSettings
    clock: Callable[[], datetime] = utc_now
    seal: Seal | None = None
    """For second factors; None where none is set up or asked for."""

    async def note(self, connection: AsyncConnection, address: str, name: str, actor: Actor, comment: str = "") -> None:
        """One event of an account, inside the caller's transaction."""
        await events.append(connection, f"account:{address}", name, self.clock(), actor, comment)


def new_secret() -> str:
    """256 random bits, as 43 letters, digits, ``-`` and ``_``."""
    return secrets.token_urlsafe(32)


def digest(secret: str) -> str:
    """What is stored of a secret: SHA-256, hex. Enough for 256 random bits, never for what people choose."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def derived(secret: str, purpose: str) -> str:
    """Another secret that only the holder of the first can know: HMAC-SHA-256 over what it is for, hex."""
    return hmac.new(secret.encode(), purpose.encode(), hashlib.sha256).hexdigest()


def same(one: str, other: str) -> bool:
    """Compare without telling by time how much of it is right."""
    return hmac.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode("utf-8", "surrogatepass"))
