"""Behind a load balancer: who the client is, and who it is not."""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.app import Gateway
from tests.serving import Client, MailServer, prepare, running, settings_for

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
TCP4 = struct.pack("!4s4sHH", b"\xcb\0\x71\x01", b"\x7f\0\0\1", 1, 2)
"""203.0.113.1 to 127.0.0.1."""


def v2(command: int, family: int, body: bytes) -> bytes:
    """A header of version 2."""
    return SIGNATURE + bytes((0x20 | command, family)) + struct.pack("!H", len(body)) + body


NOBODY = {
    "unknown": b"PROXY UNKNOWN\r\n",
    "unknown-with-addresses": b"PROXY UNKNOWN 127.0.0.1 127.0.0.1 1 2\r\n",
    "unspec": v2(1, 0, b""),
    "unix": v2(1, 0x31, b"/run/x".ljust(108, b"\0") * 2),
    "local": v2(0, 0, b""),
    "local-with-an-address": v2(0, 0x11, struct.pack("!4s4sHH", b"\x7f\0\0\1", b"\x7f\0\0\1", 1, 2)),
}


async def _through(gateway: Gateway, header: bytes) -> Client:
    client = await Client.connect(gateway.ports[0])
    client.writer.write(header)
    return client


def _listener(**more: Any) -> Any:
    return [{"name": "proxy", "address": "127.0.0.1:0", "proxy_protocol": True, **more}]


@pytest.mark.parametrize("header", NOBODY.values(), ids=NOBODY)
async def test_a_client_that_the_balancer_does_not_name_is_not_the_balancer(
    header: bytes, tmp_path: Path, server: MailServer
) -> None:
    """It once was: trusted with XCLIENT, and inside, so that it could relay anywhere."""
    prepare(tmp_path)
    async with running(settings_for(tmp_path, server, listeners=_listener())) as gateway:
        client = await _through(gateway, header)
        assert (await client.reply()).startswith("220 ")
        assert "XCLIENT" not in await client.say("EHLO client.example")
        assert (await client.say("XFORWARD ADDR=127.0.0.1")).startswith("550 5.7.1 ")
        await client.say("MAIL FROM:<a@city.example>")
        assert (await client.say("RCPT TO:<x@out.example>")).startswith("550 5.7.1 ")
        assert (await client.say("RCPT TO:<b@city.example>")).startswith("250 ")
        await client.close()


@pytest.mark.parametrize("header", [b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n", v2(1, 0x11, TCP4)], ids=["v1", "v2"])
async def test_a_client_that_the_balancer_names_is_that_client(
    header: bytes, tmp_path: Path, server: MailServer
) -> None:
    """Inside by its own address, and only then."""
    prepare(tmp_path)
    async with running(settings_for(tmp_path, server, listeners=_listener())) as gateway:
        client = await (await _through(gateway, header)).hello()
        await client.say("MAIL FROM:<a@city.example>")
        reply = await client.say("RCPT TO:<x@out.example>")
        assert reply.startswith("550 5.7.1 " if TCP4 in header else "250 "), reply
        await client.close()


@pytest.mark.parametrize("header", [b"GET / HTTP/1.1\r\n", b"EHLO client.example\r\n", b"PROXY TCP4 x y 1 2\r\n"])
async def test_without_a_header_nothing_is_heard(header: bytes, tmp_path: Path, server: MailServer) -> None:
    """The connection ends without a word."""
    prepare(tmp_path)
    async with running(settings_for(tmp_path, server, listeners=_listener())) as gateway:
        client = await _through(gateway, header)
        assert await client.reply() == ""
        await client.close()


async def test_starttls_does_not_make_the_balancer_of_a_client(
    tmp_path: Path, server: MailServer, certificate: tuple[Path, Path]
) -> None:
    """After STARTTLS the client once was whoever had connected: the balancer, who is inside."""
    prepare(tmp_path)
    files = {"tls_certificate": str(certificate[0]), "tls_key": str(certificate[1])}
    async with running(settings_for(tmp_path, server, listeners=_listener(tls="starttls", **files))) as gateway:
        client = await (await _through(gateway, b"PROXY TCP4 203.0.113.1 127.0.0.1 1 2\r\n")).hello()
        assert (await client.say("STARTTLS")).startswith("220 ")
        await client.writer.start_tls(_trusting(certificate[0]), server_hostname="gateway.city.example")
        assert "XCLIENT" not in await client.say("EHLO client.example")
        await client.say("MAIL FROM:<a@city.example>")
        assert (await client.say("RCPT TO:<x@out.example>")).startswith("550 5.7.1 ")
        await client.close()


async def _secure(port: int, certificate: Path, *pieces: bytes) -> Client:
    """A client that says ``pieces`` in clear, then begins TLS."""
    raw = socket.create_connection(("127.0.0.1", port))
    raw.setblocking(False)
    loop = asyncio.get_running_loop()
    for piece in pieces:
        await loop.sock_sendall(raw, piece)
        await asyncio.sleep(0.02)
    context = _trusting(certificate)
    return Client(*await asyncio.open_connection(sock=raw, ssl=context, server_hostname="gateway.city.example"))


@pytest.fixture
async def balanced(
    tmp_path: Path, server: MailServer, certificate: tuple[Path, Path], loop_settings: dict[str, Any]
) -> AsyncIterator[Gateway]:
    """A gateway with implicit TLS behind a load balancer."""
    prepare(tmp_path)
    files = {"tls": "implicit", "tls_certificate": str(certificate[0]), "tls_key": str(certificate[1])}
    async with running(settings_for(tmp_path, server, listeners=_listener(**files), smtp=loop_settings)) as gateway:
        yield gateway


@pytest.fixture
def loop_settings() -> dict[str, Any]:
    """The SMTP limits of :func:`balanced`."""
    return {"max_connections": 3, "max_connections_per_client": 2}


@pytest.mark.parametrize("cut", [0, 1, 3, 6, 14, 20])
@pytest.mark.parametrize("header", [b"PROXY TCP4 203.0.113.1 127.0.0.1 1 2\r\n", v2(1, 0x11, TCP4)], ids=["v1", "v2"])
async def test_the_proxy_header_comes_before_implicit_tls(
    header: bytes, cut: int, balanced: Gateway, server: MailServer, certificate: tuple[Path, Path]
) -> None:
    """Every balancer writes it in clear, in front of the handshake; it was expected within, so that nothing worked."""
    client = await _secure(balanced.ports[0], certificate[0], *filter(None, (header[:cut], header[cut:])))
    await client.hello()
    await client.say("MAIL FROM:<a@city.example>")
    assert (await client.say("RCPT TO:<x@out.example>")).startswith("550 5.7.1 ")
    await client.say("RSET")
    assert (await client.send("a@out.example", ["b@city.example"], b"A: b\r\n\r\nx\r\n")).startswith("250 ")
    assert b"[203.0.113.1]" in server.received[0].content
    assert b"with ESMTPS" in server.received[0].content
    await client.close()


async def test_who_is_not_named_is_nobody_with_implicit_tls_too(
    balanced: Gateway, certificate: tuple[Path, Path]
) -> None:
    """UNKNOWN in front of the handshake is neither trusted nor inside."""
    client = await (await _secure(balanced.ports[0], certificate[0], NOBODY["unknown"])).hello()
    assert (await client.say("XFORWARD ADDR=127.0.0.1")).startswith("550 5.7.1 ")
    await client.close()


@pytest.mark.parametrize("first", [b"EHLO x\r\n", b"\x16\x03\x01\x02\0", b"PROXY " + b"x" * 200, b""])
async def test_implicit_tls_without_a_header_is_hung_up(first: bytes, balanced: Gateway) -> None:
    """Also when the handshake begins at once; its place is free again."""
    client = await Client.connect(balanced.ports[0])
    client.writer.write(first)
    if not first:
        client.writer.write_eof()
    with contextlib.suppress(ConnectionResetError):
        assert await client.reply() == ""
    await client.close()
    await _until(lambda: not balanced._admissions[0].sessions)
    assert not balanced._admissions[0]._clients


async def test_handshakes_that_never_end_are_counted_and_end_with_the_gateway(
    balanced: Gateway, certificate: tuple[Path, Path]
) -> None:
    """They once took descriptors without a limit, for nobody counted a connection before its session."""
    header = b"PROXY TCP4 203.0.113.%d 127.0.0.1 1 2\r\n"
    good = await (await _secure(balanced.ports[0], certificate[0], header % 1)).hello()
    stuck = [await _through(balanced, header % number) for number in (1, 2)]
    await _until(lambda: balanced._admissions[0]._clients == {"203.0.113.1": 2, "203.0.113.2": 1})
    more = await Client.connect(balanced.ports[0])
    with contextlib.suppress(ConnectionResetError):
        assert await more.reply() == ""
    await stuck[0].close()
    await _until(lambda: len(balanced._admissions[0].sessions) == 2)
    assert (await good.say("NOOP")).startswith("250 ")
    for session in tuple(balanced._admissions[0].sessions):
        session.drain()
    await _until(lambda: not balanced._admissions[0].sessions)
    assert not balanced._admissions[0]._clients
    for client in (good, stuck[1], more):
        await client.close()


async def _until(claim: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not claim():
            await asyncio.sleep(0.01)


def _trusting(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate))
