"""Scanning with a real clamd: what is bad is found, what is good is clean, what was not looked at is neither."""

import asyncio
import bz2
import gzip
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvloop

from deploy.dev.clamd import DEPLOY, TINY_DATABASE, running_clamd
from gateway.checks.virus import VirusScanner
from gateway.checks.virus.breaker import State
from gateway.errors import ControlError
from gateway.model.finding import Check, Finding
from gateway.settings import ClamdSettings
from gateway.spool import SpooledMessage
from tests import pace
from tests.ports import free_port
from tests.unit.checks.virus.conftest import Clamd, MakeScanner

pytestmark = pytest.mark.real
Mail = Callable[..., bytes]
Zipped = Callable[..., bytes]

EICAR = "Eicar-Test-Signature.UNOFFICIAL"


@pytest.fixture(params=["unix", "tcp"])
def address(request: pytest.FixtureRequest, clamd: Clamd) -> str:
    """Each of the two ways to the same clamd."""
    return clamd.unix if request.param == "unix" else clamd.tcp


@pytest.fixture(params=["memory", "file"])
def message(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[bytes], SpooledMessage]]:
    """A spooled message in memory or in a file."""
    made = []

    def build(content: bytes) -> SpooledMessage:
        if request.param == "memory":
            made.append(SpooledMessage.of(content))
        else:
            path = tmp_path / f"{len(made)}.eml"
            path.write_bytes(content)
            made.append(SpooledMessage.of_file(path))
        return made[-1]

    yield build
    for one in made:
        one.close()


def forms(eicar: bytes, mail: Mail, zipped: Zipped) -> dict[str, bytes]:
    """EICAR in every form that it may come in."""
    inner = mail(attachment=zipped(eicar))
    nested = b"Subject: fwd\r\nMIME-Version: 1.0\r\nContent-Type: message/rfc822\r\n\r\n" + inner
    return {
        "plain": mail(eicar),
        "after text": mail(b"Good morning\r\n" + eicar + b"\r\nBye"),
        "base64": mail(attachment=eicar),
        "zipped": mail(attachment=zipped(eicar)),
        "zip in zip": mail(attachment=zipped(eicar, 2)),
        "message in message": nested,
        "zip in message in message as attachment": mail(attachment=nested, name="fwd.eml"),
        "in HTML": mail(attachment=b"<html><body><p>" + eicar + b"</p></body></html>", name="a.html"),
        "gzip": mail(attachment=gzip.compress(eicar)),
    }


async def test_eicar_in_every_form(
    address: str,
    make_scanner: MakeScanner,
    message: Callable[[bytes], SpooledMessage],
    eicar: bytes,
    mail: Mail,
    zipped: Zipped,
) -> None:
    """EICAR is found plain, encoded, packed and nested, on both ways, from memory and from a file."""
    scanner = make_scanner(address)
    for form, content in forms(eicar, mail, zipped).items():
        assert await scanner.scan(message(content)) == (Finding(check=Check.VIRUS, kind=EICAR),), form


async def test_clean(
    address: str, make_scanner: MakeScanner, message: Callable[[bytes], SpooledMessage], mail: Mail, zipped: Zipped
) -> None:
    """Harmless mail has no finding: empty, small, zipped, and larger than a chunk and a socket's buffer."""
    scanner = make_scanner(address)
    large = mail(attachment=os.urandom(3_000_000))
    for content in (b"", mail(), mail(attachment=zipped(b"minutes of the meeting", 3)), large):
        assert await scanner.scan(message(content)) == ()


async def test_own_signatures(clamd: Clamd, make_scanner: MakeScanner, mail: Mail) -> None:
    """Each signature in deploy/signatures fires on its sample and not on a near miss."""
    scanner = make_scanner(clamd.unix)
    left, right = (b"-".join([b"CIVICGATE-HARMLESS-TEST", side]) for side in (b"LEFT", b"RIGHT"))
    body = b"CIVICGATE-HARMLESS-TEST-MARKER-BODY"
    file = b"civicgate harmless test file, known by its hash\n"
    cases = [
        (mail(body), "Civicgate.Test.Body.UNOFFICIAL"),
        (mail(body.lower()), ""),
        (mail(left + b" and " + right), "Civicgate.Test.Pair.UNOFFICIAL"),
        (mail(left), ""),
        (mail(right), ""),
        (mail(attachment=file), "Civicgate.Test.Hash.UNOFFICIAL"),
        (mail(attachment=file + b"\n"), ""),
    ]
    for content, name in cases:
        assert "".join(f.kind for f in await scanner.scan(SpooledMessage.of(content))) == name


def test_no_file_holds_eicar(eicar: bytes) -> None:
    """The EICAR string stands in no file that we ship: a virus scanner would delete it from a clone."""
    own = [path for folder in (DEPLOY, Path(__file__).parent) for path in folder.rglob("*") if path.is_file()]
    assert own
    assert [path for path in own if eicar in path.read_bytes()] == []


async def test_concurrent_scans_do_not_mix(address: str, make_scanner: MakeScanner, eicar: bytes, mail: Mail) -> None:
    """Sixty scans over three connections, good and bad in turn: each gets its own answer."""
    scanner = make_scanner(address, connections=3)

    async def one(number: int) -> bool:
        bad = number % 3 == 0
        found = await scanner.scan(SpooledMessage.of(mail(eicar if bad else b"number %d" % number)))
        return bool(found) == bad

    assert all(await asyncio.gather(*(one(n) for n in range(60))))


def test_on_uvloop(clamd: Clamd, eicar: bytes, mail: Mail) -> None:
    """The same on uvloop, on both ways, with a message that fills the socket's buffer."""

    async def run() -> None:
        for address in (clamd.unix, clamd.tcp):
            scanner = VirusScanner(ClamdSettings(address=address))
            assert await scanner.ping()
            assert await scanner.scan(SpooledMessage.of(mail(eicar))) == (Finding(check=Check.VIRUS, kind=EICAR),)
            assert await scanner.scan(SpooledMessage.of(mail(attachment=os.urandom(5_000_000)))) == ()
            results = await asyncio.gather(*(scanner.scan(SpooledMessage.of(mail(b"%d" % n))) for n in range(30)))
            assert results == [()] * 30
            await scanner.close()

    uvloop.run(run())


async def test_a_name_is_looked_up(clamd: Clamd, make_scanner: MakeScanner, eicar: bytes, mail: Mail) -> None:
    """A host may be given by name."""
    port = clamd.tcp.rpartition(":")[2]
    assert await make_scanner(f"localhost:{port}").scan(SpooledMessage.of(mail(eicar)))


async def test_sessions_are_kept(clamd: Clamd, make_scanner: MakeScanner, mail: Mail) -> None:
    """On a unix socket one session serves many messages, and an idle one is not trusted."""
    scanner = make_scanner(clamd.unix)
    for number in range(5):
        await scanner.scan(SpooledMessage.of(mail(b"%d" % number)))
    (session,) = scanner._idle
    assert session.requests == 5
    session.used -= 60
    await scanner.scan(SpooledMessage.of(mail()))
    assert scanner._idle[0] is not session
    assert session._sock.fileno() == -1


async def test_session_that_clamd_closed_is_replaced(clamd: Clamd, make_scanner: MakeScanner, mail: Mail) -> None:
    """A session closed from the other side between two messages costs neither of them."""
    scanner = make_scanner(clamd.unix)
    await scanner.scan(SpooledMessage.of(mail()))
    (session,) = scanner._idle
    session._sock.shutdown(socket.SHUT_WR)  # clamd sees the end and closes
    await scanner.scan(SpooledMessage.of(mail(b"next")))
    assert scanner._idle[0] is not session


async def test_health(address: str, make_scanner: MakeScanner) -> None:
    """PING and VERSION answer on both ways."""
    scanner = make_scanner(address)
    assert await scanner.ping()
    assert (await scanner.version()).startswith("ClamAV ")


async def test_the_loop_stays_free(clamd: Clamd, make_scanner: MakeScanner, mail: Mail, tmp_path: Path) -> None:
    """While 20 MB are scanned over TCP, another task is never kept waiting for long."""
    path = tmp_path / "large.eml"
    path.write_bytes(mail(attachment=os.urandom(20_000_000)))
    message = SpooledMessage.of_file(path)
    loop, worst = asyncio.get_running_loop(), 0.0
    scan = asyncio.ensure_future(make_scanner(clamd.tcp).scan(message))
    while not scan.done():
        before = loop.time()
        await asyncio.sleep(0.001)
        worst = max(worst, loop.time() - before)
    assert await scan == ()
    message.close()
    assert worst < pace.seconds(0.25)


# --- limits ---------------------------------------------------------------------------------------------------------


async def assert_limit(scanner: VirusScanner, content: bytes) -> None:
    """A scan of the content fails, and because of a limit."""
    with pytest.raises(ControlError) as raised:
        await scanner.scan(SpooledMessage.of(content))
    assert raised.value.reason == "limit", raised.value.detail


async def test_archive_limits(
    clamd: Clamd, make_scanner: MakeScanner, eicar: bytes, mail: Mail, zipped: Zipped
) -> None:
    """An archive deeper than MaxRecursion is a limit: not clean, though clamd finds nothing, and no virus either."""
    scanner = make_scanner(clamd.unix, breaker_failures=1)
    await assert_limit(scanner, mail(attachment=zipped(b"deep", 25)))
    await assert_limit(scanner, mail(attachment=zipped(eicar, 25)))
    assert scanner.breaker_state is State.CLOSED, "a limit says nothing of clamd's health"


@pytest.fixture(scope="module")
def small_limits(tmp_path_factory: pytest.TempPathFactory, clamd: Clamd) -> Iterator[Clamd]:
    """A clamd whose size limits are a hundredth of the shipped ones, and like those equal to each other."""
    del clamd  # only to skip where clamd is not installed
    port = free_port()
    changes = {"StreamMaxLength": "2M", "MaxFileSize": "6M", "MaxScanSize": "6M", "PCREMaxFileSize": "6M"}
    directory = tmp_path_factory.mktemp("small")
    with running_clamd(directory, database=TINY_DATABASE, tcp_port=port, changes=changes) as path:
        yield Clamd(f"unix:{path}", f"127.0.0.1:{port}")


async def test_stream_max_length(small_limits: Clamd, make_scanner: MakeScanner, mail: Mail) -> None:
    """On TCP a message above StreamMaxLength is a limit, and the next message is scanned as ever."""
    scanner = make_scanner(small_limits.tcp)
    for size in (2_200_000, 4_000_000, 20_000_000):
        await assert_limit(scanner, os.urandom(size))
    assert await scanner.scan(SpooledMessage.of(mail())) == ()


async def test_max_file_size(small_limits: Clamd, make_scanner: MakeScanner, eicar: bytes) -> None:
    """A message above MaxFileSize handed over as a file is a limit."""
    await assert_limit(make_scanner(small_limits.unix), b"Subject: x\r\n\r\n" + os.urandom(7_000_000) + eicar)


async def test_large_html(clamd: Clamd, make_scanner: MakeScanner, mail: Mail, eicar: bytes, tmp_path: Path) -> None:
    """EICAR behind 42 MB of HTML is found: clamd's default MaxHTMLNormalize (40M) would silently skip the file."""
    path = tmp_path / "page.eml"
    path.write_bytes(mail(attachment=b"<html><body>" + b"<p>paragraph</p>\n" * 2_500_000 + eicar, name="a.html"))
    message = SpooledMessage.of_file(path)
    assert await make_scanner(clamd.unix).scan(message) == (Finding(check=Check.VIRUS, kind=EICAR),)
    message.close()


@pytest.mark.parametrize("packing", ["zip", "gzip", "bzip2"])
async def test_unpacked_too_large(
    small_limits: Clamd, make_scanner: MakeScanner, mail: Mail, eicar: bytes, zipped: Zipped, packing: str
) -> None:
    """A bomb with EICAR behind its first megabytes is a limit.

    clamd silently cuts a zip's member at MaxFileSize; with the shipped MaxFileSize = MaxScanSize that is not unseen.
    """
    packers: dict[str, Zipped] = {"zip": zipped, "gzip": gzip.compress, "bzip2": bz2.compress}
    bomb = packers[packing](b"\0" * 12_000_000 + eicar)
    await assert_limit(make_scanner(small_limits.unix), mail(attachment=bomb))
