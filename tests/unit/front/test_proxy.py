"""Behind a load balancer: who the client is, and who it is not."""

import ssl
import struct
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


def _trusting(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate))
