"""A test virus in every disguise, through the running gateway with a real clamd and the shipped rules."""

import contextlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import pytest

from deploy.dev.clamd import clamd_program
from tests.e2e.letters import EICAR, STRANGER
from tests.e2e.running import CityGateway, Sink, transact, transaction_of
from tests.unit.checks.virus.disguises import DISGUISES, attached

pytestmark = [pytest.mark.real, pytest.mark.skipif(clamd_program() is None, reason="clamd is not installed")]
HARMLESS = b"Minutes of the meeting of the Common Council, all members present.\n"
ORDINARY = (
    *("base64 attachment", "quoted-printable attachment", "base64 root", "zip", "zip in zip", "forwarded message"),
    *("opaque signed message", "opaque signed part", "winmail.dat", "Outlook message", "tar.gz", "xz", "bzip2", "lzma"),
    *("PDF with it embedded", "invitation with it attached", "message as a file", "uuencode in the text"),
    *("in lines of 60", "soft breaks everywhere", "name in pieces", "second part, multipart/parallel", "no end"),
)
"""Forms in which harmless files travel, sloppy ones and such with a second scan among them."""
_A_SESSION = 10
"""Messages a connection: refusals add up."""
_AT_A_TIME = 6


def sent(city: CityGateway, recipient: str, messages: Iterable[bytes]) -> list[str]:
    """Each message on its way, a few at a time, and their replies."""
    waiting = list(messages)

    def session(at: int) -> list[str]:
        replies = []
        with contextlib.closing(city.connect()) as client:
            for content in waiting[at : at + _A_SESSION]:
                replies.append(transact(client, STRANGER, [recipient], content))
                client.rset()
        return replies

    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        return [reply for some in pool.map(session, range(0, len(waiting), _A_SESSION)) for reply in some]


def test_no_disguise_gets_through(city: CityGateway, sink: Sink) -> None:
    """Each one is refused for good, or held; nothing arrives."""
    recipient = "vault@city.example"
    replies = dict(zip(DISGUISES, sent(city, recipient, (make(EICAR) for make in DISGUISES.values())), strict=True))
    held = {item["transaction"] for item in city.held()}
    passed = {
        name: reply
        for name, reply in replies.items()
        if not reply.startswith("5") and not (reply.startswith("250") and transaction_of(reply) in held)
    }
    assert not passed
    assert sum(reply.startswith("554 5.7.1") for reply in replies.values()) > len(replies) * 0.95
    assert not sink.to(recipient)


def test_the_same_forms_pass_without_a_virus(city: CityGateway, sink: Sink) -> None:
    """Ordinary and sloppy ways to send a harmless file arrive, with and without a second scan."""
    recipient = "minutes@city.example"
    messages = [DISGUISES[name](HARMLESS) for name in ORDINARY]
    replies = dict(zip(ORDINARY, sent(city, recipient, messages), strict=True))
    assert {name: reply for name, reply in replies.items() if not reply.startswith("250")} == {}
    assert len(sink.to(recipient)) == len(ORDINARY)


def test_a_second_scan_is_told(city: CityGateway) -> None:
    """What is found in a part that clamd alone does not see is the same finding: 554, and the name in the log."""
    content = DISGUISES["opaque signed zip"](EICAR).replace(b"Subject: Invoice", b"Message-ID: <apart@test.example>")
    (reply,) = sent(city, "vault@city.example", [content])
    assert reply.startswith("554 5.7.1")
    line = city.line_of("<apart@test.example>")
    assert "icar" in line
    assert "rescan" in line
    (reply,) = sent(city, "vault@city.example", [attached(b"x").replace(b"Invoice", b"Hello")])
    assert reply.startswith("250")
