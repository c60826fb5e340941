"""Claims of gateway.deliver about STARTTLS, with certificates made for the test."""

import asyncio
import datetime
import ipaddress
import ssl
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.deliver import NextHop
from gateway.errors import ConfigError, NextHopError
from gateway.settings import NextHopSettings
from tests.unit.deliver.scripted import CLIENT, HANG, Server, Starter, ehlo, eventually, relay

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)
TLS = ehlo("STARTTLS", "PIPELINING")


@dataclass(frozen=True)
class Authority:
    """A CA that signs what it is asked to."""

    folder: Path
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def file(self) -> Path:
        """Its certificate."""
        return self.folder / "ca.pem"

    def context(self, name: str, expires: datetime.datetime = NOW + DAY) -> ssl.SSLContext:
        """A server context with a certificate for ``name``."""
        key = ec.generate_private_key(ec.SECP256R1())
        try:
            alternative: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(name))
        except ValueError:
            alternative = x509.DNSName(name)
        certificate = (
            _builder("hop", key, self.certificate.subject, expires)
            .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
                critical=False,
            )
            .sign(self.key, hashes.SHA256())
        )
        file = self.folder / f"{name}-{expires.date()}.pem"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context


def _builder(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: x509.Name | None, expires: datetime.datetime
) -> x509.CertificateBuilder:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - 10 * DAY)
        .not_valid_after(expires)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _authority(folder: Path) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        _builder("Test CA", key, None, NOW + DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "ca.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return Authority(folder, key, certificate)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The authority that the next hop's certificates are verified by."""
    return _authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Another one, that nobody trusts."""
    return _authority(tmp_path_factory.mktemp("stranger"))


async def _refused(hop: NextHop, server: Server) -> None:
    """No transaction is begun, and no mail command was heard."""
    with pytest.raises(NextHopError) as raised:
        await hop.begin(CLIENT, "a@example.org", ())
    assert raised.value.reply.code == 451
    await eventually(lambda: server.live == 0)
    assert not any(line.startswith(("MAIL", "RCPT", "DATA")) for commands in server.sessions for line in commands)


async def test_verified(start: Starter, authority: Authority) -> None:
    """With the right certificate mail goes inside TLS ≥ 1.2, after a second EHLO, with SNI."""
    context = authority.context("hop.city.example")
    names: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    server, hop = await start(
        Server({"EHLO": [TLS, ehlo("SIZE 77")]}, context=context),
        tls="verify",
        tls_name="hop.city.example",
        ca_file=authority.file,
    )
    assert await relay(hop) == "250 2.0.0 queued"
    assert await relay(hop, b"y" * 1_000_000) == "250 2.0.0 queued"
    assert server.sessions[0][:3] == ["EHLO gw.city.example", "STARTTLS", "EHLO gw.city.example"]
    assert names == ["hop.city.example"]
    assert hop.capabilities is not None
    assert hop.capabilities.secure
    assert set(hop.capabilities.keywords) == {"SIZE"}
    connection = server.writers[0].get_extra_info("ssl_object")
    assert connection.version() in ("TLSv1.2", "TLSv1.3")
    assert len(server.messages[1]) == 1_000_005


async def test_verified_by_address(start: Starter, authority: Authority) -> None:
    """Without ``tls_name`` the certificate must be for the host of the address."""
    server, hop = await start(
        Server({"EHLO": TLS}, context=authority.context("127.0.0.1")), tls="verify", ca_file=authority.file
    )
    assert await relay(hop) == "250 2.0.0 queued"
    assert server.sessions[0][1] == "STARTTLS"


@pytest.mark.parametrize("fault", ["name", "expired", "authority", "old TLS"])
async def test_verification_fails(start: Starter, authority: Authority, stranger: Authority, fault: str) -> None:
    """Another name, an expired certificate, an unknown authority, TLS 1.1: no mail."""
    context = {
        "name": lambda: authority.context("other.city.example"),
        "expired": lambda: authority.context("hop.city.example", NOW - DAY),
        "authority": lambda: stranger.context("hop.city.example"),
        "old TLS": lambda: authority.context("hop.city.example"),
    }[fault]()
    if fault == "old TLS":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # that it is deprecated is the point
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("ALL:@SECLEVEL=0")
    server, hop = await start(
        Server({"EHLO": TLS}, context=context), tls="verify", tls_name="hop.city.example", ca_file=authority.file
    )
    await _refused(hop, server)
    assert len(server.sessions) == 1


@pytest.mark.parametrize(
    "replies",
    [{"EHLO": ehlo("PIPELINING")}, {"EHLO": TLS, "STARTTLS": b"454 4.7.0 not now\r\n"}, {"EHLO": b"502 no\r\n"}],
    ids=["not offered", "refused", "HELO only"],
)
async def test_tls_not_to_be_had(start: Starter, authority: Authority, replies: dict[str, bytes]) -> None:
    """Without STARTTLS, ``verify`` sends no mail and ``opportunistic`` sends it in clear, on the same connection."""
    server, hop = await start(Server(dict(replies)), tls="verify", ca_file=authority.file)
    await _refused(hop, server)
    server, hop = await start(Server(dict(replies)), tls="opportunistic")
    assert await relay(hop) == "250 2.0.0 queued"
    assert len(server.sessions) == 1


@pytest.mark.parametrize("said", [b"250 2.0.0 injected\r\n", b"250-hop\r\n250 XFORWARD\r\n", b"25", b"\x16\x03\x01"])
@pytest.mark.parametrize("mode", ["verify", "opportunistic"])
async def test_injection(start: Starter, authority: Authority, mode: str, said: bytes) -> None:
    """Octets in clear behind the reply to STARTTLS are refused: they never count as said inside TLS."""
    server, hop = await start(
        Server({"EHLO": TLS, "STARTTLS": b"220 2.0.0 ready\r\n" + said}, context=authority.context("127.0.0.1")),
        tls=mode,
        ca_file=authority.file,
    )
    await _refused(hop, server)
    assert all(commands[-1] == "STARTTLS" for commands in server.sessions)


async def test_late_injection(start: Starter, authority: Authority) -> None:
    """Octets in clear that come when the handshake has begun end it."""

    class Late(Server):
        async def _answer(self, writer: asyncio.StreamWriter, answer: bytes) -> bool:
            going = await super()._answer(writer, answer)
            if answer.startswith(b"220 2.0.0 ready"):
                await asyncio.sleep(0.02)
                writer.write(b"250 2.0.0 injected\r\n")
            return going

    server, hop = await start(
        Late({"EHLO": TLS}, context=authority.context("127.0.0.1")), tls="verify", ca_file=authority.file
    )
    await _refused(hop, server)


async def test_opportunistic_takes_any_certificate(start: Starter, stranger: Authority) -> None:
    """Opportunistic TLS uses what it gets, as RFC 7435 has it."""
    server, hop = await start(
        Server({"EHLO": TLS}, context=stranger.context("elsewhere.example", NOW - DAY)), tls="opportunistic"
    )
    assert await relay(hop) == "250 2.0.0 queued"
    assert server.sessions[0][1] == "STARTTLS"
    assert hop.capabilities is not None
    assert hop.capabilities.secure


async def test_opportunistic_falls_back(start: Starter) -> None:
    """A handshake that fails is followed by a connection in clear."""
    server, hop = await start(
        Server({"EHLO": TLS, "STARTTLS": [b"220 2.0.0 ready\r\n", b"454 4.7.0 no\r\n"], "\x16": b"500 what\r\n"}),
        tls="opportunistic",
        pool_size=1,
    )
    assert await relay(hop) == "250 2.0.0 queued"
    assert len(server.sessions) == 2
    assert "STARTTLS" not in server.sessions[1]


async def test_handshake_has_a_deadline(start: Starter, authority: Authority) -> None:
    """A next hop that says 220 and then nothing does not hold the client."""

    class Silent(Server):
        def reply(self, verb: str) -> bytes:
            return super().reply(verb) if verb in ("CONNECT", "EHLO", "STARTTLS") else HANG

    server, hop = await start(
        Silent({"EHLO": TLS}), tls="verify", ca_file=authority.file, connect_timeout="150 ms", command_timeout="150 ms"
    )
    async with asyncio.timeout(1):
        await _refused(hop, server)


async def test_none_does_not_start_tls(start: Starter) -> None:
    """``tls: none`` does not say STARTTLS."""
    server, hop = await start(Server({"EHLO": TLS}))
    await relay(hop)
    assert "STARTTLS" not in server.sessions[0]


def test_ca_file_missing(tmp_path: Path) -> None:
    """A CA file that cannot be used is an error of the configuration."""
    for content in (None, b"not a certificate"):
        file = tmp_path / "ca.pem"
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(ConfigError, match=r"next_hop\.ca_file"):
            NextHop(NextHopSettings(tls="verify", ca_file=file), "gw.city.example")


@pytest.mark.parametrize("hostname", ["gw.stadt-münchen.example", "gw\r\nMAIL FROM:<>", "gw x"])
def test_hostname_that_cannot_be_said(hostname: str) -> None:
    """A host name that would break EHLO is an error of the configuration."""
    with pytest.raises(ConfigError, match="hostname"):
        NextHop(NextHopSettings(), hostname)
