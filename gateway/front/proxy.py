"""Whom a load balancer speaks for: the header of the PROXY protocol, version 1 or 2, read octet-exactly.

Refuses what is no such header. A balancer that names nobody lends nobody its own standing: being trusted, and inside
when its network is, it would make the city's own out of any stranger behind it.

* ``PROXY`` with an IP address: that is the client.
* ``UNKNOWN``, ``UNSPEC`` and unix sources: a client of whom nothing is known, outside and untrusted. The protocol's
  section 2.1 would have the balancer's own address used; for access control that is the wrong answer.
* ``LOCAL`` (section 2.2): the balancer's own connection, a health check. Its address stands in the log as the section
  asks; it speaks for no client, and so it is outside and untrusted all the same.
"""

import asyncio
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Protocol

from aiosmtpd.proxy_protocol import V2_CMD, get_proxy

from gateway.model.envelope import Client

TIMEOUT = 5.0
"""Seconds for the header; a load balancer sends it at once."""


class Reader(Protocol):
    """Where the header comes from; never reads more than it is asked for. Raises ConnectionError."""

    async def read(self, n: int = -1) -> bytes:
        """Up to ``n`` octets."""

    async def readexactly(self, n: int) -> bytes:
        """``n`` octets."""

    async def readuntil(self, separator: bytes = b"\n") -> bytes:
        """Octets up to and with ``separator``."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """Who is at the other end."""

    client: Client
    known: bool = True
    """False: not to be trusted, nor taken for one of the city's by its network."""

    @property
    def counted_as(self) -> str:
        """The address whose connections are limited, ``""`` when nobody knows it."""
        return self.client.address if self.known else ""


async def read_proxy(reader: Reader, balancer: Client) -> Arrival | None:
    """The client that the header names, None when there is no valid header in time. Raises ConnectionError."""
    try:
        data = await asyncio.wait_for(get_proxy(reader), TIMEOUT)
    except TimeoutError:
        return None
    if not data.valid:
        return None
    if data.command is not None and data.command == V2_CMD.LOCAL:
        return Arrival(balancer, known=False)
    if isinstance(data.src_addr, IPv4Address | IPv6Address):
        return Arrival(Client(str(data.src_addr), data.src_port or 0))
    return Arrival(Client(""), known=False)
