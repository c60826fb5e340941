"""Mail between a real Postfix in front of the gateway and a real Postfix behind it, in both ways of putting it there.

In front: ``smtpd_proxy_filter`` (before the queue), and ``relayhost`` (behind the queue). Behind: a Postfix that is the
gateway's next hop and passes on to a recording server, so that what arrived can be compared octet by octet.
"""

import contextlib
import smtplib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.postfix import Postfix, installed, running_postfix
from tests.e2e.running import CityGateway, Nursery, Sink, running_city, said, transact, until
from tests.ports import free_ports
from tests.serving import Received

pytestmark = [pytest.mark.real, pytest.mark.skipif(not installed(), reason="Postfix is not installed, or not root")]

OUTSIDE = "203.0.113.9"
WAYS = ("proxy", "relay")


@dataclass
class MailPath:
    """Postfix → gateway → Postfix → recording server."""

    proxy: int
    """Port of a Postfix with smtpd_proxy_filter."""
    relay: int
    """Port of a Postfix whose relayhost is the gateway."""
    behind: Postfix
    gateway: CityGateway
    sink: Sink

    def connect(self, way: str, client: str = "") -> smtplib.SMTP:
        """A client of the Postfix in front, at another address if one is given (XCLIENT)."""
        port = self.proxy if way == "proxy" else self.relay
        smtp = smtplib.SMTP("127.0.0.1", port, local_hostname="desk.city.example", timeout=30)
        smtp.ehlo()
        if client:
            code, text = smtp.docmd("XCLIENT", f"ADDR={client} NAME=[UNAVAILABLE] HELO=far.example")
            assert code == 220, said(code, text)
            smtp.ehlo()
        return smtp

    def arrived(self, mark: str) -> Received:
        """The message with this mark in it, at the end of the path."""
        return self.sink.wait(mark.encode(), seconds=20)[0]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, nursery: Nursery, clamd: Path) -> Iterator[MailPath]:
    """The whole path, with the default rules."""
    # without PIPELINING: Postfix would send QUIT behind the final dot, which the recording server takes for smuggling
    keywords = ("8BITMIME", "SMTPUTF8", "DSN", "SIZE 200000000", "XFORWARD NAME ADDR PROTO HELO SOURCE PORT")
    folder = tmp_path_factory.mktemp("path")
    behind, proxy, relay = free_ports(3)
    with contextlib.ExitStack() as stack:
        sink = stack.enter_context(Sink(keywords=keywords))
        after = stack.enter_context(
            running_postfix("inside.city.example", {behind: ""}, {"relayhost": f"[127.0.0.1]:{sink.port}"})
        )
        gateway = stack.enter_context(running_city(folder / "g", nursery, behind, clamd={"address": f"unix:{clamd}"}))
        stack.enter_context(
            running_postfix(
                "front.city.example",
                {proxy: f"-o smtpd_proxy_filter=127.0.0.1:{gateway.port}", relay: ""},
                {"relayhost": f"[127.0.0.1]:{gateway.port}"},
            )
        )
        yield MailPath(proxy, relay, after, gateway, sink)


def _original(received: bytes) -> bytes:
    """What arrived without the trace fields on top."""
    start = received.index(b"X-First: ")
    assert received[:start].count(b"(Civicgate)") == 1
    return received[start:]


@pytest.mark.parametrize("way", WAYS)
def test_content_arrives_octet_by_octet(path: MailPath, way: str) -> None:
    """A message that no rule changes is the same octets behind both Postfixes, but for trace fields on top."""
    mark = f"octets-{way}"
    content = (
        f"X-First: {mark}\r\nFrom:clerk@city.example\r\nTo: <mayor@city.example>\r\nsubject:  odd   spacing \r\n\r\n"
        "..two dots\r\n.\r\n.one\r\n\ttabs \t \r\n" + "x" * 5000 + "\r\n\r\n\r\nend\r\n\r\n"
    ).encode()
    with path.connect(way) as smtp:
        reply = transact(smtp, "clerk@city.example", ["mayor@city.example"], content)
    assert reply.startswith("250 2.0.0 Ok: queued as ")
    assert _original(path.arrived(mark).content) == content


def test_the_next_hops_reply_reaches_the_client(path: MailPath) -> None:
    """Through smtpd_proxy_filter the client reads the queue id that the Postfix behind the gateway gave."""
    with path.connect("proxy") as smtp:
        reply = transact(smtp, "clerk@city.example", ["mayor@city.example"], b"X-First: queue-id\r\n\r\nx\r\n")
    queue_id = reply.rpartition(" ")[2]
    until(lambda: f"{queue_id}: from=<clerk@city.example>" in path.behind.log, 10, "not the next hop's queue id")


@pytest.mark.parametrize("way", WAYS)
def test_dsn_parameters_survive(path: MailPath, way: str) -> None:
    """RET, ENVID, NOTIFY and ORCPT come out behind the path as they went in (RFC 3461)."""
    mark = f"dsn-{way}"
    with path.connect(way) as smtp:
        smtp.docmd("MAIL", f"FROM:<clerk@city.example> RET=HDRS ENVID={mark}+2B7")
        smtp.docmd("RCPT", "TO:<mayor@city.example> NOTIFY=FAILURE,DELAY ORCPT=rfc822;her+2Bwork@old.example")
        code, text = smtp.data(f"X-First: {mark}\r\n\r\nx\r\n")
        assert code == 250, text
    found = path.arrived(mark)
    assert "RET=HDRS" in found.mail
    assert f"ENVID={mark}+2B7" in found.mail
    assert "NOTIFY=FAILURE,DELAY" in found.rcpts[0]
    assert "ORCPT=rfc822;her+2Bwork@old.example" in found.rcpts[0]


@pytest.mark.parametrize("way", WAYS)
def test_utf8_and_eight_bits_survive(path: MailPath, way: str) -> None:
    """SMTPUTF8 addresses and header fields, and 8BITMIME bodies, arrive undamaged (RFC 6531, RFC 6152)."""
    mark = f"utf8-{way}"
    content = (
        f"X-First: {mark}\r\nFrom: clerk@city.example\r\nSubject: Grüße\r\nMIME-Version: 1.0\r\n"
        "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nDie Straße, 道路.\r\n"
    ).encode()
    with path.connect(way) as smtp:
        smtp.send("MAIL FROM:<clerk@city.example> SMTPUTF8 BODY=8BITMIME\r\n")
        assert smtp.getreply()[0] == 250
        smtp.send("RCPT TO:<bürger@example.org>\r\n".encode())
        code, text = smtp.getreply()
        assert code == 250, text
        code, text = smtp.data(content)
        assert code == 250, text
    found = path.arrived(mark)
    assert "SMTPUTF8" in found.mail
    assert "BODY=8BITMIME" in found.mail
    assert "<bürger@example.org>" in found.rcpts[0]
    assert _original(found.content) == content


def test_the_clients_address_decides_the_direction(path: MailPath) -> None:
    """XFORWARD by smtpd_proxy_filter: an outside client's mail is inbound, and it cannot relay to the outside."""
    with path.connect("proxy", OUTSIDE) as smtp:
        content = b"X-First: from-outside\r\nMessage-ID: <from-outside@far.example>\r\n\r\nx\r\n"
        assert transact(smtp, "someone@far.example", ["mayor@city.example"], content).startswith("250 ")
        reply = transact(smtp, "someone@far.example", ["other@far.example"], content)
    assert reply.startswith("550 5.7.1 This gateway relays only for the city")
    line = path.gateway.line_of("<from-outside@far.example>")
    assert f"client={OUTSIDE}" in line
    assert "direction=inbound" in line
    until(lambda: f"orig_client=unknown[{OUTSIDE}]" in path.behind.log, 10, "the next hop was not told the client")
    until(lambda: any(f"ADDR={OUTSIDE}" in c for c in path.sink.server.commands if c.startswith("XFORWARD")), 10)


def test_a_refusal_by_policy_reaches_the_client_before_the_queue(path: MailPath) -> None:
    """Through smtpd_proxy_filter the sender reads the policy's own words at the end of data; nothing is queued."""
    text = b"X-First: contractor\r\nFrom: contractor@city.example\r\n\r\nDone.\r\n\r\n-- \r\nPat Doe\r\n"
    with path.connect("proxy") as smtp:
        reply = transact(smtp, "contractor@city.example", ["partner@example.org"], text)
    assert reply.startswith("550 5.7.1")
    assert "Contractor (non-city employee)" in reply


def test_swaks_talks_through_the_path(path: MailPath) -> None:
    """swaks, a client of its own making, gets its message and attachment through."""
    folder = path.gateway.folder
    attachment = folder / "table.csv"
    attachment.write_text("a,b\n1,2\n")
    done = subprocess.run(
        ["swaks", "--server", f"127.0.0.1:{path.proxy}", "--from", "clerk@city.example", "--to", "partner@example.org",
         "--header", "Subject: swaks-mark", "--body", "See the table.", "--attach", f"@{attachment}"],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert b"YSxiCjEsMgo=" in path.arrived("swaks-mark").content
