"""What comes before the session where TLS is implicit: the PROXY header, which is said in clear, then the handshake.

A load balancer writes its header in front of the client's octets, that is in front of the handshake. The event loop's
TLS server would begin with the handshake, and a session that has read the header may have read the handshake's first
octets with it. So the header is read from the socket itself, no octet more, and TLS begins on what is left.

Counts connections from the first moment: who never ends a handshake takes a place like everybody. Refuses, by hanging
up, who is over the limit, has no header where one is due, or fails the handshake.
"""

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from functools import partial
from typing import cast

from gateway.front.connection import HANDSHAKE_TIMEOUT
from gateway.front.limits import Admission
from gateway.front.proxy import Arrival, read_proxy
from gateway.front.session import SmtpSession
from gateway.metrics import CONNECTIONS_REFUSED, SMTP_ERRORS
from gateway.model.envelope import Client
from gateway.pipeline.mishap import mishap
from gateway.settings import ListenerSettings

_LONGEST_LINE = 107
"""Octets of a header of version 1, by its specification."""


class Porch(asyncio.Protocol):
    """One connection until its session begins."""

    def __init__(
        self,
        listener: ListenerSettings,
        admission: Admission,
        context: ssl.SSLContext,
        trusts: Callable[[str], bool],
        make: Callable[[Arrival], SmtpSession],
    ) -> None:
        self._listener = listener
        self._admission = admission
        self._context = context
        self._trusts = trusts
        self._make = make
        self._counted_as = ""
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, base: asyncio.BaseTransport) -> None:
        """Take the socket from the transport before it has read anything, and go on with that."""
        transport = cast("asyncio.Transport", base)
        peer = transport.get_extra_info("peername")
        balancer = Client(peer[0], peer[1]) if isinstance(peer, tuple) else Client("")
        if not self._listener.proxy_protocol:
            self._counted_as = balancer.address
        if self._admission.enter(self, self._counted_as) is not None:
            CONNECTIONS_REFUSED.labels("limit").inc()
            transport.abort()
            return
        own = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
        own.setblocking(False)
        transport.abort()  # closes its descriptor; the connection lives on in ours
        self._task = asyncio.get_running_loop().create_task(self._run(own, balancer))

    def drain(self) -> None:
        """The gateway stops: nothing has been said yet that could be lost."""
        if self._task is not None:
            self._task.cancel()

    def cut(self) -> None:
        """The same."""
        self.drain()

    async def _run(self, own: socket.socket, balancer: Client) -> None:
        try:
            arrival = await self._arrival(own, balancer)
            if arrival is not None:
                await asyncio.get_running_loop().connect_accepted_socket(
                    partial(self._begin, arrival),
                    own,
                    ssl=self._context,
                    ssl_handshake_timeout=HANDSHAKE_TIMEOUT,
                )
                return
            CONNECTIONS_REFUSED.labels("proxy" if self in self._admission.sessions else "limit").inc()
        except OSError:  # the client hung up, or the handshake failed or took too long
            SMTP_ERRORS.labels("tls").inc()
        except Exception:  # noqa: BLE001 - nobody awaits this task: what ends it must be told here
            mishap("porch")
        finally:
            if self in self._admission.sessions:  # no session has taken the place
                self._admission.leave(self, self._counted_as)
                own.close()

    def _begin(self, arrival: Arrival) -> SmtpSession:
        session = self._make(arrival)
        session.place = self
        return session

    async def _arrival(self, own: socket.socket, peer: Client) -> Arrival | None:
        """Who it is, from the header where one is due; None: hang up."""
        if not self._listener.proxy_protocol:
            return Arrival(peer)
        if not self._trusts(peer.address):
            return None
        arrival = await read_proxy(_SocketReader(own), peer)
        if arrival is None:
            return None
        before, self._counted_as = self._counted_as, arrival.counted_as
        return arrival if self._admission.rename(self, before, self._counted_as) is None else None


class _SocketReader:
    """Reads no octet more than it is asked for: what follows is the handshake's."""

    def __init__(self, own: socket.socket) -> None:
        self._socket = own

    async def read(self, n: int = -1) -> bytes:
        piece = await asyncio.get_running_loop().sock_recv(self._socket, n)
        if not piece:
            raise ConnectionResetError
        return piece

    async def readexactly(self, n: int) -> bytes:
        data = b""
        while len(data) < n:
            data += await self.read(n - len(data))
        return data

    async def readuntil(self, separator: bytes = b"\n") -> bytes:
        data = b""
        while not data.endswith(separator):
            if len(data) > _LONGEST_LINE:
                raise ConnectionResetError
            data += await self.read(1)
        return data
