"""TLS and the PROXY protocol at the gateway's door, and TLS to a real Postfix behind it."""

import asyncio
import contextlib
import socket
import ssl
import struct
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.app import Gateway
from tests.e2e.letters import letter, mark
from tests.e2e.postfix import installed, running_postfix
from tests.e2e.running import until
from tests.ports import free_ports
from tests.serving import Client, MailServer, prepare, running, settings_for

V2 = b"\r\n\r\n\0\r\nQUIT\n"


@dataclass(frozen=True)
class Door:
    """A gateway with a listener of each kind, and the certificate that it shows."""

    gateway: Gateway
    certificate: Path
    key: Path

    def port(self, number: int) -> int:
        """0: STARTTLS, 1: implicit TLS, 2: TLS required, 3: PROXY protocol."""
        return self.gateway.ports[number]

    def context(self) -> ssl.SSLContext:
        """A client's, that trusts the certificate and nothing else."""
        return ssl.create_default_context(cafile=str(self.certificate))


def make_certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A self-signed server certificate and its key, by openssl."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", "-keyout", str(key), "-out",
         str(certificate)],
        capture_output=True, check=True, timeout=30,
    )  # fmt: skip
    return certificate, key


@pytest.fixture
async def door(tmp_path: Path, server: MailServer) -> AsyncIterator[Door]:
    """The gateway with its four listeners; only 127.0.0.1 may say for whom it speaks."""
    certificate, key = make_certificate(tmp_path, "gateway.city.example")
    files = {"tls_certificate": str(certificate), "tls_key": str(key), "address": "127.0.0.1:0"}
    listeners: Any = [
        {"name": "starttls", "tls": "starttls", **files},
        {"name": "implicit", "tls": "implicit", **files},
        {"name": "required", "tls": "starttls", "require_tls": True, **files},
        {"name": "proxied", "address": "127.0.0.1:0", "proxy_protocol": True},
    ]
    prepare(tmp_path)
    network = {"trusted_hosts": ["127.0.0.1/32"], "internal_networks": ["127.0.0.0/8"]}
    async with running(settings_for(tmp_path, server, listeners=listeners, network=network)) as gateway:
        yield Door(gateway, certificate, key)


async def _start_tls(client: Client, door: Door) -> None:
    assert (await client.say("STARTTLS")).startswith("220 2.0.0")
    await client.writer.start_tls(door.context(), server_hostname="gateway.city.example")


async def test_starttls(door: Door, server: MailServer) -> None:
    """Offered, works with a verified certificate, is not offered twice, and the trace field says so."""
    client = await Client.connect(door.port(0))
    await client.reply()
    assert "STARTTLS" in await client.say("EHLO client.example")
    await _start_tls(client, door)
    assert (await client.say("MAIL FROM:<clerk@city.example>")).startswith("503"), "EHLO must be said anew"
    assert "STARTTLS" not in await client.say("EHLO client.example")
    reply = await client.send("clerk@city.example", ["mayor@city.example"], letter(mark("tls")))
    assert reply.startswith("250")
    trace = server.received[0].content.partition(b"X-First")[0]
    assert b"with ESMTPS" in trace
    assert b"TLSv1.3" in trace
    await client.close()


async def test_ehlo_right_behind_the_handshake_is_heard(door: Door) -> None:
    """A client that says EHLO together with the end of the handshake gets its answer; it was thrown away once."""
    for _ in range(5):
        client = await (await Client.connect(door.port(0))).hello()
        await _start_tls(client, door)
        client.writer.write(b"EHLO client.example\r\n")
        assert (await client.reply(3)).startswith("250-")
        await client.close()


async def test_nothing_in_clear_behind_starttls_is_heard(door: Door, server: MailServer) -> None:
    """Commands injected in the same packet as STARTTLS are neither answered nor carried out (CVE-2011-0411)."""
    client = await (await Client.connect(door.port(0))).hello()
    client.writer.write(b"STARTTLS\r\nMAIL FROM:<evil@city.example>\r\nRCPT TO:<mayor@city.example>\r\nDATA\r\n")
    assert (await client.reply()).startswith("220")
    try:
        await client.writer.start_tls(door.context(), server_hostname="gateway.city.example")
    except (OSError, ssl.SSLError):
        pass  # the injected octets spoilt the handshake: as good
    else:
        assert (await client.say("EHLO client.example")).startswith("250-gateway.city.example")
        assert (await client.say("RCPT TO:<mayor@city.example>")).startswith("503")
    await client.close()
    assert not any("evil" in command for command in server.commands)
    assert not server.received


async def test_implicit_tls(door: Door, server: MailServer) -> None:
    """TLS from the first octet; who speaks plainly there gets no greeting."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", door.port(1), ssl=door.context(), server_hostname="gateway.city.example"
    )
    client = await Client(reader, writer).hello()
    reply = await client.send("clerk@city.example", ["mayor@city.example"], letter(mark("tls")))
    assert reply.startswith("250")
    assert b"with ESMTPS" in server.received[0].content
    await client.close()
    plain = await Client.connect(door.port(1))
    plain.writer.write(b"EHLO client.example\r\n")
    assert not (await plain.reply()).startswith("2")
    await plain.close()


async def test_tls_can_be_required(door: Door, server: MailServer) -> None:
    """Without TLS MAIL is refused with 530 5.7.0; with it, it is taken."""
    client = await (await Client.connect(door.port(2))).hello()
    assert (await client.say("MAIL FROM:<clerk@city.example>")).startswith("530 5.7.0")
    await _start_tls(client, door)
    await client.say("EHLO client.example")
    assert (await client.send("clerk@city.example", ["mayor@city.example"], letter(mark("tls")))).startswith("250")
    await client.close()
    assert len(server.received) == 1


def _v2(source: str) -> bytes:
    addresses = socket.inet_aton(source) + socket.inet_aton("127.0.0.1") + struct.pack("!HH", 5555, 25)
    return V2 + struct.pack("!BBH", 0x21, 0x11, len(addresses)) + addresses


@pytest.mark.parametrize(
    "header", [b"PROXY TCP4 203.0.113.9 127.0.0.1 5555 25\r\n", _v2("203.0.113.9")], ids=["1", "2"]
)
async def test_proxy_protocol_tells_the_client(door: Door, server: MailServer, header: bytes) -> None:
    """Versions 1 and 2: the address decides the direction, and it may not say for whom it speaks itself."""
    client = await Client.connect(door.port(3))
    client.writer.write(header)
    await client.hello()
    assert (await client.say("XFORWARD ADDR=127.0.0.1")).startswith("550 5.7.1")
    assert (await client.send("a@far.example", ["b@far.example"], b"x: y\r\n\r\n")).startswith("550 5.7.1")
    await client.say("RSET")
    assert (await client.send("a@far.example", ["mayor@city.example"], letter(mark("v")))).startswith("250")
    assert b"[203.0.113.9]" in server.received[0].content
    await client.close()


@pytest.mark.parametrize(
    "first", [b"EHLO client.example\r\n", b"PROXY NONSENSE\r\n", V2 + b"\x31\x11\0\x0c" + b"x" * 12]
)
async def test_without_a_proxy_header_nobody_is_heard(door: Door, first: bytes) -> None:
    """Neither SMTP nor a broken header gets a word."""
    client = await Client.connect(door.port(3))
    client.writer.write(first)
    with contextlib.suppress(ConnectionResetError):
        assert await client.reply() == ""
    await client.close()


async def test_a_proxy_header_from_a_stranger_is_refused(door: Door, server: MailServer) -> None:
    """From an address that is not among trusted_hosts the header opens nothing."""
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port(3), local_addr=("127.0.0.2", 0))
    client = Client(reader, writer)
    client.writer.write(b"PROXY TCP4 127.0.0.1 127.0.0.1 5555 25\r\nEHLO x\r\n")
    with contextlib.suppress(ConnectionResetError):
        assert await client.reply() == ""
    await client.close()
    assert not server.commands or server.commands[0].startswith("EHLO gateway")


@pytest.mark.real
@pytest.mark.skipif(not installed(), reason="Postfix is not installed, or not root")
async def test_tls_to_the_mail_server_is_verified(tmp_path: Path, server: MailServer) -> None:
    """tls: verify delivers to a Postfix whose certificate is right; another name or authority: 451, and no mail."""
    certificate, key = make_certificate(tmp_path, "inside.city.example")
    stranger, _ = make_certificate(tmp_path, "other.city.example")
    port = free_ports(1)[0]
    tls = {"smtpd_tls_security_level": "encrypt", "smtpd_tls_cert_file": str(certificate), "smtpd_tls_loglevel": "1"}
    tls |= {"smtpd_tls_key_file": str(key), "default_transport": "discard:"}
    with running_postfix("inside.city.example", {port: ""}, tls) as postfix:
        replies = []
        for number, (name, authority) in enumerate(
            (
                ("inside.city.example", certificate),
                ("wrong.city.example", certificate),
                ("inside.city.example", stranger),
            )
        ):
            folder = tmp_path / f"g{number}"
            prepare(folder)
            hop = {"address": f"127.0.0.1:{port}", "tls": "verify", "tls_name": name, "ca_file": str(authority)}
            async with running(settings_for(folder, server, next_hop=hop)) as gateway:
                client = await (await Client.connect(gateway.ports[0])).hello()
                sent = await client.send("clerk@city.example", ["mayor@city.example"], letter(mark(f"hop{number}")))
                replies.append(sent)
                await client.close()
        assert replies[0].startswith("250 2.0.0 Ok: queued as"), replies
        assert replies[1].startswith("451 4.7.5"), replies
        assert replies[2].startswith("451 4.7.5"), replies
        until(lambda: "TLS connection established from" in postfix.log, 10)
        assert postfix.log.count("from=<clerk@city.example>") == 1
