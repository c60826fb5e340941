"""From a connected socket to a server that is ready for MAIL: greeting, EHLO or HELO, STARTTLS, EHLO again.

Refuses a greeting that is not 220, a server that takes neither EHLO nor HELO, and, when ``tls: verify`` is set, any
server without a certificate for its name by the configured authority: not one octet of mail is sent to it.
"""

import asyncio
import ssl
from collections.abc import Callable

from gateway.deliver.capabilities import Capabilities
from gateway.deliver.connection import INSECURE, Connection
from gateway.errors import ConfigError, NextHopError
from gateway.settings import NextHopSettings


def tls_context(settings: NextHopSettings) -> ssl.SSLContext | None:
    """The context for ``settings.tls``; None for ``none``. Raises ConfigError when the CA file cannot be used."""
    if settings.tls == "none":
        return None
    try:
        if settings.tls == "opportunistic" and not settings.ca_file:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # whom the machine trusts takes 25 ms to read
        else:
            context = ssl.create_default_context(cafile=str(settings.ca_file) if settings.ca_file else None)
    except OSError as error:
        raise ConfigError(f"next_hop.ca_file: {settings.ca_file} cannot be used: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.tls == "opportunistic":
        # RFC 7435: whoever can forge a certificate could as well have hidden the STARTTLS keyword.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class Session:
    """Opens connections by one set of settings."""

    def __init__(self, settings: NextHopSettings, hostname: str) -> None:
        self._settings = settings
        if not hostname.isascii() or not hostname.isprintable() or " " in hostname:
            raise ConfigError(f"smtp.hostname: {hostname!r} cannot be said in EHLO")
        self._hostname = hostname
        self._context = tls_context(settings)
        self._name = settings.tls_name or settings.address.host

    async def open(self, factory: Callable[[], Connection]) -> tuple[Connection, Capabilities]:
        """A connection ready for MAIL, and what it can do. Raises NextHopError.

        Opportunistic TLS that fails in the handshake is followed by a second connection in clear (RFC 7435).
        """
        connection = await self._connect(factory)
        try:
            return connection, await self._greet(connection, secure=self._context is not None)
        except NextHopError as error:
            if self._settings.tls != "opportunistic" or error.reply is not INSECURE:
                raise
        finally:
            self._drop_unless_ready(connection)
        connection = await self._connect(factory)
        try:
            return connection, await self._greet(connection, secure=False)
        finally:
            self._drop_unless_ready(connection)

    @staticmethod
    def _drop_unless_ready(connection: Connection) -> None:
        if not connection.ready:
            connection.abort("not ready for mail")

    async def _connect(self, factory: Callable[[], Connection]) -> Connection:
        address = self._settings.address
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._settings.connect_timeout):
                _, connection = await loop.create_connection(factory, address.host, address.port)
        except (OSError, UnicodeError) as error:  # TimeoutError is an OSError; a host name may be no name
            raise NextHopError(f"cannot connect to the next hop {address}: {str(error) or 'timed out'}") from error
        return connection

    async def _greet(self, connection: Connection, *, secure: bool) -> Capabilities:
        await connection.greeting.done
        greeting = connection.only(connection.greeting)
        if greeting.code != 220:
            raise NextHopError(f"the next hop greets with {greeting}")
        capabilities = await self._hello(connection, secure=False)
        if secure and self._context is not None:
            capabilities = await self._secure(connection, self._context, capabilities)
        connection.ready = True
        return capabilities

    async def _secure(self, connection: Connection, context: ssl.SSLContext, clear: Capabilities) -> Capabilities:
        """EHLO again inside TLS, or ``clear`` when opportunistic TLS is not to be had."""
        needed = self._settings.tls == "verify"
        if not clear.starttls:
            if needed:
                raise NextHopError("the next hop does not offer STARTTLS", INSECURE)
            return clear
        reply = await connection.command(b"STARTTLS\r\n", "STARTTLS")
        if reply.code != 220:
            if needed:
                raise NextHopError(f"the next hop refuses STARTTLS: {reply}", INSECURE)
            return clear
        await connection.start_tls(context, self._name, self._settings.connect_timeout)
        return await self._hello(connection, secure=True)

    async def _hello(self, connection: Connection, *, secure: bool) -> Capabilities:
        reply = await connection.command(f"EHLO {self._hostname}\r\n".encode("ascii"), "EHLO")
        if reply.positive:
            return Capabilities.of(reply, secure=secure)
        if reply.temporary:
            raise NextHopError(f"the next hop answers EHLO with {reply}")
        reply = await connection.command(f"HELO {self._hostname}\r\n".encode("ascii"), "HELO")
        if not reply.positive:
            raise NextHopError(f"the next hop answers HELO with {reply}")
        return Capabilities.of(reply, secure=secure)
