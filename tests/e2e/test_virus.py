"""The virus control with a real clamd behind the running gateway and the shipped rules."""

import io
import os
import re
import signal
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email import policy
from email.message import EmailMessage
from pathlib import Path
from subprocess import Popen

import pytest

from deploy.dev.clamd import clamd_program, start_clamd, stop_clamd
from tests import pace
from tests.e2e.letters import CLERK, EICAR, MAYOR, STRANGER, letter, mark, named
from tests.e2e.running import CityGateway, Nursery, Sink, running_city, until

pytestmark = [pytest.mark.real, pytest.mark.skipif(clamd_program() is None, reason="clamd is not installed")]
TIMEOUT = 1.5
"""Seconds that the gateway waits for a scan here."""


def zipped(name: str, octets: bytes) -> bytes:
    """An archive with one file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, octets)
    return buffer.getvalue()


def _message(name: str) -> EmailMessage:
    message = EmailMessage()
    message["X-First"], message["From"], message["To"], message["Subject"] = name, STRANGER, CLERK, "Invoice"
    message["Message-ID"] = f"<{name}@test.example>"
    message.set_content("See attachment.\n")
    return message


def plain(name: str) -> bytes:
    """As the text itself."""
    return letter(name, "", STRANGER, CLERK) + EICAR + b"\r\n"


def base64(name: str) -> bytes:
    """As a base64 attachment."""
    message = _message(name)
    message.add_attachment(EICAR, maintype="application", subtype="octet-stream", filename="invoice.dat")
    return message.as_bytes(policy=policy.SMTP)


def in_a_zip(name: str) -> bytes:
    """In an archive."""
    message = _message(name)
    message.add_attachment(zipped("invoice.dat", EICAR), maintype="application", subtype="zip", filename="invoice.zip")
    return message.as_bytes(policy=policy.SMTP)


def zip_in_zip(name: str) -> bytes:
    """In an archive in an archive."""
    message = _message(name)
    inner = zipped("inner.zip", zipped("invoice.dat", EICAR))
    message.add_attachment(inner, maintype="application", subtype="zip", filename="outer.zip")
    return message.as_bytes(policy=policy.SMTP)


def forwarded(name: str) -> bytes:
    """Attached to a message that is attached."""
    inner = _message(mark("inner"))
    inner.add_attachment(EICAR, maintype="application", subtype="octet-stream", filename="invoice.dat")
    message = _message(name)
    message.add_attachment(inner)
    return message.as_bytes(policy=policy.SMTP)


@dataclass
class Guarded:
    """A gateway and the clamd that it asks."""

    gateway: CityGateway
    folder: Path
    clamd: "Popen[bytes]"

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Clamd hangs."""
        os.kill(self.clamd.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.clamd.pid, signal.SIGCONT)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, nursery: Nursery, sink: Sink) -> Iterator[Guarded]:
    """A gateway with short patience and a clamd of its own."""
    folder = tmp_path_factory.mktemp("v")
    process = start_clamd(folder / "clamd")
    settings = {
        "address": f"unix:{folder}/clamd/clamd.sock", "scan_timeout": f"{TIMEOUT} s", "breaker_reset": "300 ms",
    }  # fmt: skip
    running = [process]
    try:
        with running_city(folder / "g", nursery, sink.port, clamd=settings, workers=1) as gateway:
            guarded = Guarded(gateway, folder, process)
            yield guarded
            running.append(guarded.clamd)
    finally:
        for one in running:
            stop_clamd(one)


@pytest.mark.parametrize("form", [plain, base64, in_a_zip, zip_in_zip, forwarded], ids=lambda form: str(form.__name__))
def test_eicar_is_refused(guarded: Guarded, sink: Sink, form: Callable[[str], bytes]) -> None:
    """554 5.7.1 in whatever form it comes; the signature's name is in the log and not in the reply."""
    name = mark("virus")
    reply = guarded.gateway.send(STRANGER, [CLERK], form(name))
    assert reply.startswith("554 5.7.1")
    assert "eicar" not in reply.lower()
    line = guarded.gateway.line_of(f"<{name}@test.example>")
    assert re.search(r"eicar", line, re.IGNORECASE), line
    assert not sink.having(named(name))


def test_a_clean_message_passes(guarded: Guarded, sink: Sink) -> None:
    """The near miss: a message that speaks of EICAR, and an archive of text."""
    name = mark("clean")
    message = _message(name)
    message.add_attachment(
        zipped("a.txt", b"EICAR is a test file"), maintype="application", subtype="zip", filename="a.zip"
    )
    assert guarded.gateway.send(STRANGER, [CLERK], message.as_bytes(policy=policy.SMTP)).startswith("250")
    sink.wait(named(name))


def test_the_it_director_is_told(guarded: Guarded, sink: Sink) -> None:
    """The rule's notice arrives, without the virus."""
    assert guarded.gateway.send(STRANGER, [CLERK], base64(mark("notice"))).startswith("554")
    notice = sink.wait_to("it-director@city.example", b"virus-found").content
    assert EICAR not in notice


def test_a_clamd_that_hangs_defers_in_time(guarded: Guarded, sink: Sink) -> None:
    """Not answered within scan_timeout: 451 4.7.1; awake again: mail flows."""
    name = mark("hangs")
    with guarded.stopped():
        started = time.monotonic()
        reply = guarded.gateway.send(MAYOR, [CLERK], letter(name, sender=MAYOR, to=CLERK))
        took = time.monotonic() - started
    assert reply.startswith("451 4.7.1"), reply
    assert took < TIMEOUT + pace.seconds(1.5)
    assert "failed_controls" in guarded.gateway.line_of(f"<{name}@test.example>")
    until(lambda: guarded.gateway.send(MAYOR, [CLERK], letter(mark("awake"))).startswith("250"), 10)
    assert not sink.having(named(name))


def test_a_clamd_that_is_killed_defers_until_it_is_back(guarded: Guarded, sink: Sink) -> None:
    """Nobody at the socket: 451 4.7.1 at once; a new clamd: mail flows without a restart of the gateway."""
    guarded.clamd.kill()
    guarded.clamd.wait()
    name = mark("killed")
    for _ in range(7):  # more than the breaker takes
        started = time.monotonic()
        reply = guarded.gateway.send(MAYOR, [CLERK], letter(name, sender=MAYOR, to=CLERK))
        assert reply.startswith("451 4.7.1"), reply
        assert time.monotonic() - started < pace.seconds(1.0)
    guarded.clamd = start_clamd(guarded.folder / "clamd")
    back = mark("back")
    until(lambda: guarded.gateway.send(MAYOR, [CLERK], letter(back)).startswith("250"), 10)
    assert guarded.gateway.send(STRANGER, [CLERK], base64(mark("again"))).startswith("554 5.7.1")
    assert not sink.having(named(name))
    sink.wait(named(back))
