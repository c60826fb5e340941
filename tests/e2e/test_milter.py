"""A real Postfix that asks us about its mail, by ``smtpd_milters`` and ``non_smtpd_milters``."""

import contextlib
import smtplib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.e2e.letters import CLERK, MAYOR, certificate, letter, mark, named
from tests.e2e.postfix import Postfix, installed, open_folder, running_postfix
from tests.e2e.running import CityGateway, Nursery, Sink, running_city, said, until
from tests.ports import free_ports
from tests.serving import Received

pytestmark = [pytest.mark.real, pytest.mark.skipif(not installed(), reason="Postfix is not installed, or not root")]

OUTSIDE = "203.0.113.9"


@dataclass
class Beside:
    """Postfix, the gateway that it asks, and what leaves Postfix."""

    port: int
    postfix: Postfix
    gateway: CityGateway
    sink: Sink
    old_port: int
    """Where it asks by version 2 of the protocol."""

    def connect(self, client: str = "") -> smtplib.SMTP:
        """A client of Postfix, at another address if one is given (XCLIENT)."""
        smtp = smtplib.SMTP("127.0.0.1", self.port, local_hostname="desk.city.example", timeout=60)
        smtp.ehlo()
        if client:
            code, text = smtp.docmd("XCLIENT", f"ADDR={client} NAME=[UNAVAILABLE] HELO=far.example")
            assert code == 220, said(code, text)
            smtp.ehlo()
        return smtp

    def send(self, sender: str, recipients: list[str], content: bytes, client: str = "") -> str:
        """One message; the last reply."""
        with contextlib.closing(self.connect(client)) as smtp:
            for command in (f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{recipient}>" for recipient in recipients)):
                code, text = smtp.docmd(command)
                if code != 250:
                    return said(code, text)
            return said(*smtp.data(content))

    def held(self, needle: str) -> list[list[str]]:
        """The recipients of each held item of the message with this mark in its Message-ID."""
        ident = self.gateway.line_of(needle).partition(" id=")[2].partition(" ")[0]
        return [item["recipients"] for item in self.gateway.held_of(ident)]

    def arrived(self, needle: str, count: int = 1) -> list[Received]:
        """The messages with this mark in them, once there are so many."""
        return self.sink.wait(needle.encode(), count=count, seconds=30)


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory, nursery: Nursery, clamd: Path) -> Iterator[Beside]:
    """Postfix with the gateway as its milter, default rules."""
    keywords = ("8BITMIME", "SMTPUTF8", "DSN", "SIZE 200000000")
    port, back, old = free_ports(3)
    with contextlib.ExitStack() as stack:
        sink = stack.enter_context(Sink(keywords=keywords))
        path = stack.enter_context(open_folder()) / "milter.sock"
        gateway = stack.enter_context(
            running_city(
                tmp_path_factory.mktemp("beside") / "g",
                nursery,
                back,
                clamd={"address": f"unix:{clamd}"},
                milter={
                    "listeners": [{"name": "beside", "address": f"unix:{path}", "mode": "0666"}],
                    "next_hop_asks": True,
                },
            )
        )
        postfix = stack.enter_context(
            running_postfix(
                "front.city.example",
                # what leaves our store, by «back», is asked about again
                {port: "", back: "", old: "-o milter_protocol=2"},
                {
                    "relayhost": f"[127.0.0.1]:{sink.port}",
                    "smtpd_milters": f"unix:{path}",
                    "non_smtpd_milters": f"unix:{path}",
                    "milter_default_action": "tempfail",
                    "myorigin": "city.example",
                },
            )
        )
        yield Beside(port, postfix, gateway, sink, old)


def body_of(content: bytes) -> bytes:
    """What stands behind the header."""
    return content.partition(b"\r\n\r\n")[2]


def test_what_no_rule_changes_arrives_octet_by_octet(beside: Beside) -> None:
    """Postfix gets no edit for ordinary mail: the body is the same, and no header field is added but its own."""
    name = mark("untouched")
    content = letter(name, sender=CLERK, to=MAYOR, text="A picnic on Friday.\n\n.dots\n\u00fcml\u00e4ut\n")
    assert beside.send(CLERK, [MAYOR], content).startswith("250 ")
    (got,) = beside.arrived(name)
    assert body_of(got.content) == body_of(content)
    assert b"ivicgate" not in got.content


def test_a_refusal_is_the_clients(beside: Beside) -> None:
    """A message that a rule rejects is refused by Postfix in our words, before its queue."""
    content = letter(mark("refused"), sender="contractor@city.example", to=MAYOR, text="Please find the plans.\n")
    answer = beside.send("contractor@city.example", [MAYOR], content)
    assert answer.startswith("550 5.7.1 ")
    assert "signature" in answer


def test_size_is_refused_at_mail(beside: Beside) -> None:
    """An envelope rule answers at MAIL, or at RCPT; at twice its size where copies of ours may come back."""
    with contextlib.closing(beside.connect()) as smtp:
        first = smtp.docmd("MAIL", f"FROM:<{CLERK}> SIZE=110000000")
        answer = first if first[0] != 250 else smtp.docmd("RCPT", "TO:<someone@elsewhere.example>")
    assert said(*answer).startswith("552 5.3.4 ")


def test_a_hold_takes_only_its_recipient_out(beside: Beside) -> None:
    """Mail to the whole city and one person: the person has it at once, the list waits in our store."""
    name = mark("all-city")
    content = letter(name, sender=CLERK, to="everyone@city.example", subject=name, text="Picnic on Friday.\n")
    assert beside.send(CLERK, ["everyone@city.example", MAYOR], content).startswith("250 ")
    got = beside.sink.wait_to(MAYOR, name.encode(), seconds=40)
    assert [path for path in got.rcpts if "everyone" in path] == []
    assert beside.held(name) == [["everyone@city.example"]]


def test_what_is_held_for_everybody_is_not_queued(beside: Beside) -> None:
    """Held for all: committed to our store, and Postfix forgets it."""
    name = mark("all-held")
    content = letter(name, sender=CLERK, to="everyone@city.example", subject=name, text="Picnic on Friday.\n")
    assert beside.send(CLERK, ["everyone@city.example"], content).startswith("250 ")
    assert beside.held(name) == [["everyone@city.example"]]
    assert not [got for got in beside.sink.all() if name.encode() in got.content and "everyone" in got.rcpts[0]]


def test_confidential_mail_leaves_encrypted(beside: Beside, tmp_path: Path) -> None:
    """One message, two forms: encrypted to the outside, plain inside; neither is in clear outside."""
    name = mark("encrypted")
    outside = "partner@elsewhere.example"
    cert = certificate(beside.gateway.certificates, tmp_path, outside)
    content = letter(name, sender=CLERK, to=outside, text="Her Social Security number is 536-90-4399.\n")
    assert beside.send(CLERK, [outside, MAYOR], content).startswith("250 ")
    got = until(
        lambda: [m for m in beside.sink.all() if any(outside in path for path in m.rcpts)], 30, "nothing arrived"
    )
    sealed = got[-1].content
    assert b"application/pkcs7-mime" in sealed
    assert b"536-90-4399" not in sealed
    assert b"536-90-4399" in cert.open(sealed)
    (plain,) = beside.arrived("536-90-4399")
    assert [path.partition(">")[0] for path in plain.rcpts] == [f"TO:<{MAYOR}"]


def test_the_oldest_protocol_does_the_same(beside: Beside, tmp_path: Path) -> None:
    """Version 2: every step is answered, no leading space. One recipient held, one encrypted, one plain."""
    name, outside = mark("version-2"), "old@elsewhere.example"
    cert = certificate(beside.gateway.certificates, tmp_path, outside)
    text = f"Her Social Security number is 536-90-4399.\n{name}\n"
    content = letter(name, text, CLERK, outside, "X-Folded: one\r\n\ttwo  three")
    asked = replace(beside, port=beside.old_port)
    assert asked.send(CLERK, [outside, "everyone@city.example", MAYOR], content).startswith("250 ")
    plain = beside.sink.wait_to(MAYOR, named(name), seconds=40).content
    assert b"\r\nX-Folded: one\r\n\ttwo  three\r\n" in plain
    sealed = until(lambda: beside.sink.to(outside), 40, "nothing arrived")[0].content
    assert name.encode() not in sealed.partition(b"\r\n\r\n")[2]
    assert name.encode() in cert.open(sealed)
    assert beside.held(name) == [["everyone@city.example"]]


def test_local_mail_is_asked_about_too(beside: Beside) -> None:
    """Mail handed to Postfix's sendmail command comes by non_smtpd_milters, and is the city's own."""
    name = mark("local")
    content = letter(name, sender=CLERK, to="everyone@city.example", subject=name, text="Picnic.\n")
    subprocess.run(
        ["/usr/sbin/sendmail", "-C", str(beside.postfix.folder / "etc"), "-f", CLERK, "everyone@city.example"],
        input=content.replace(b"\r\n", b"\n"),
        check=True,
        timeout=60,
    )
    assert beside.held(name) == [["everyone@city.example"]]


def test_local_mail_to_a_name_without_a_domain_is_held_and_not_delivered(beside: Beside) -> None:
    """Postfix completes the name before it asks us, and finds nobody of the whole name to take out."""
    name = mark("bare")
    content = letter(name, sender=CLERK, to="everyone", subject=name, text="Picnic.\n")
    subprocess.run(
        ["/usr/sbin/sendmail", "-C", str(beside.postfix.folder / "etc"), "-f", CLERK, "everyone", "mayor"],
        input=content.replace(b"\r\n", b"\n"),
        check=True,
        timeout=60,
    )
    got = beside.sink.wait_to(MAYOR, named(name), seconds=40)
    assert not [path for path in got.rcpts if "everyone" in path]
    assert beside.held(name) == [["everyone@city.example"]]
    assert not [one for one in beside.sink.having(named(name)) if "everyone" in "".join(one.rcpts)]


def test_a_recipient_with_a_source_route_is_held_and_not_delivered(beside: Beside) -> None:
    """Postfix knows the recipient by the route, and by no other name."""
    name = mark("route")
    content = letter(name, sender=CLERK, to="everyone@city.example", subject=name, text="Picnic.\n")
    answer = beside.send(CLERK, ["@elsewhere.example:everyone@city.example", MAYOR], content)
    assert answer.startswith("250 ")
    beside.sink.wait_to(MAYOR, named(name), seconds=40)
    assert beside.held(name) == [["everyone@city.example"]]
    assert not [one for one in beside.sink.having(named(name)) if "everyone" in "".join(one.rcpts)]


def test_the_client_decides_the_direction(beside: Beside) -> None:
    """A client outside internal_networks brings inbound mail, whatever Postfix's own address is."""
    name = mark("inbound")
    content = letter(name, sender="far@elsewhere.example", to=MAYOR, text="Hello.\n")
    assert beside.send("far@elsewhere.example", [MAYOR], content, client=OUTSIDE).startswith("250 ")
    line = beside.gateway.line_of(name)
    assert "direction=inbound" in line
    assert f"client={OUTSIDE}" in line
    assert "queue_id=" in line


def test_what_leaves_our_store_passes_once_more(beside: Beside) -> None:
    """Released mail comes to Postfix by a port that asks us too: it passes by its mark, which nobody else ever sees."""
    name = mark("released")
    content = letter(name, sender=CLERK, to="everyone@city.example", text="Picnic on Friday.\n")
    assert beside.send(CLERK, ["everyone@city.example"], content).startswith("250 ")
    ident = beside.gateway.line_of(name).partition(" id=")[2].partition(" ")[0]
    (item,) = beside.gateway.held_of(ident)
    for approver in ("manager@city.example", "communications@city.example"):
        beside.gateway.cli("hold", "approve", item["id"], "--as", approver)
    got = beside.sink.wait_to("everyone@city.example", name.encode(), seconds=40)
    assert b"ivicgate-Passage" not in got.content
    assert len(beside.gateway.held_of(ident)) == 1
    until(lambda: "our own copy" in beside.gateway.log, 10, "the mark was not used")


def test_a_forged_mark_means_nothing(beside: Beside) -> None:
    """A client's own mark of passage is taken off, and the rules apply."""
    name = mark("forged")
    content = letter(
        name, "Hello.\n", CLERK, MAYOR, f"X-Civicgate-Passage: {'0' * 32}; t=1; n=1; h={'0' * 64}; m={'0' * 64}"
    )
    assert beside.send(CLERK, [MAYOR, "everyone@city.example"], content).startswith("250 ")
    got = beside.sink.wait_to(MAYOR, name.encode(), seconds=40)
    assert b"ivicgate-Passage" not in got.content
    assert beside.held(name) == [["everyone@city.example"]]
