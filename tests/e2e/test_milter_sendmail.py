"""A real Sendmail that asks us, OpenDKIM's miltertest, and the PyPI client of the same name."""

import contextlib
import shutil
import smtplib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e import sendmail
from tests.e2e.letters import CLERK, MAYOR, certificate, letter, mark
from tests.e2e.postfix import open_folder
from tests.e2e.running import CityGateway, Nursery, Sink, running_city, said, until
from tests.ports import free_ports

pytestmark = pytest.mark.real

HERE = Path(__file__).parent


@dataclass
class Asked:
    """The gateway and the socket on which it is asked."""

    gateway: CityGateway
    socket: Path
    sink: Sink


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory, nursery: Nursery, clamd: Path) -> Iterator[Asked]:
    """The gateway with a milter's socket, default rules; its store delivers to the sink."""
    with contextlib.ExitStack() as stack:
        sink = stack.enter_context(Sink())
        socket = stack.enter_context(open_folder()) / "milter.sock"
        gateway = stack.enter_context(
            running_city(
                tmp_path_factory.mktemp("asked") / "g",
                nursery,
                sink.port,
                clamd={"address": f"unix:{clamd}"},
                milter={"listeners": [{"name": "beside", "address": f"unix:{socket}", "mode": "0666"}]},
            )
        )
        yield Asked(gateway, socket, sink)


@pytest.fixture(scope="module")
def port(asked: Asked) -> Iterator[int]:
    """Sendmail's."""
    if not sendmail.installed():
        pytest.skip("Sendmail is not unpacked, or not root")
    (number,) = free_ports(1)
    with sendmail.running_sendmail(number, asked.sink.port, asked.socket):
        yield number


def send(port: int, sender: str, recipients: list[str], content: bytes) -> str:
    """One message; the first refusal, or the last reply."""
    with contextlib.closing(smtplib.SMTP("127.0.0.1", port, local_hostname="desk.city.example", timeout=60)) as smtp:
        smtp.ehlo()
        for command in (f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{recipient}>" for recipient in recipients)):
            code, text = smtp.docmd(command)
            if code != 250:
                return said(code, text)
        return said(*smtp.data(content))


def test_sendmail_passes_what_no_rule_changes(asked: Asked, port: int) -> None:
    """No edit, and the log has Sendmail's own name for the message."""
    name = mark("sm-plain")
    content = letter(name, text="A picnic on Friday.\n\n.dots\n")
    assert send(port, CLERK, [MAYOR], content).startswith("250 ")
    (got,) = asked.sink.wait(name.encode(), seconds=40)
    assert got.content.endswith(b"\r\n\r\nA picnic on Friday.\r\n\r\n.dots\r\n")
    assert b"ivicgate" not in got.content
    assert "queue_id=" in asked.gateway.line_of(name)


def test_sendmail_says_our_refusal(asked: Asked, port: int) -> None:
    """In our words, per cent signs and all."""
    sender = "contractor@city.example"
    answer = send(port, sender, [MAYOR], letter(mark("sm-refused"), sender=sender, text="The plans.\n"))
    assert answer.startswith("550 5.7.1 ")
    assert "signature" in answer


def test_sendmail_loses_the_held_recipient_only(asked: Asked, port: int) -> None:
    """The list is taken out of Sendmail's transaction, the person stays."""
    name = mark("sm-hold")
    content = letter(name, to="everyone@city.example", text="Picnic.\n")
    assert send(port, CLERK, ["everyone@city.example", MAYOR], content).startswith("250 ")
    got = asked.sink.wait_to(MAYOR, name.encode(), seconds=40)
    assert [path.partition("<")[2].partition(">")[0] for path in got.rcpts] == [MAYOR]
    ident = asked.gateway.line_of(name).partition(" id=")[2].partition(" ")[0]
    assert [item["recipients"] for item in asked.gateway.held_of(ident)] == [["everyone@city.example"]]


def test_sendmail_sends_the_encrypted_form(asked: Asked, port: int, tmp_path: Path) -> None:
    """Fields replaced and a whole new body: what arrives opens with the recipient's key, and nothing is in clear."""
    name = mark("sm-encrypted")
    outside = "sealed@elsewhere.example"
    cert = certificate(asked.gateway.certificates, tmp_path, outside)
    content = letter(name, to=outside, text="Her Social Security number is 536-90-4399.\n")
    assert send(port, CLERK, [outside], content).startswith("250 ")
    got = until(lambda: asked.sink.to(outside), 40, "nothing arrived")[0]
    assert b"536-90-4399" not in got.content
    assert b"536-90-4399" in cert.open(got.content)


MILTERTEST = """
conn = mt.connect("unix:{socket}")
if conn == nil then error("no connection") end
if mt.conninfo(conn, "localhost", "127.0.0.1") ~= nil then error("conninfo") end
mt.helo(conn, "desk.city.example")
function message(from, to, value, body)
  mt.macro(conn, SMFIC_MAIL, "i", "t-verify")
  if mt.mailfrom(conn, "<" .. from .. ">") ~= nil then error("mailfrom") end
  if mt.getreply(conn) ~= SMFIR_CONTINUE then error("mailfrom reply") end
  mt.rcptto(conn, "<" .. to .. ">")
  if mt.getreply(conn) ~= SMFIR_CONTINUE then error("rcptto reply") end
  mt.header(conn, "From", from)
  mt.header(conn, "To", to)
  mt.header(conn, "Subject", value)
  mt.eoh(conn)
  mt.bodystring(conn, body)
  mt.eom(conn)
  return mt.getreply(conn)
end
if message("{clerk}", "{mayor}", "plain", "A picnic.\\r\\n") ~= SMFIR_ACCEPT then error("plain mail is refused") end
if mt.eom_check(conn, MT_HDRADD) or mt.eom_check(conn, MT_BODYCHANGE) then error("plain mail is edited") end
if message("contractor@city.example", "{mayor}", "plans", "The plans.\\r\\n") ~= SMFIR_REPLYCODE then
  error("a contractor without a signature block is not refused")
end
if message("{clerk}", "everyone@city.example", "picnic", "A picnic.\\r\\n") ~= SMFIR_DISCARD then
  error("mail to the city is not taken over")
end
mt.disconnect(conn)
"""


@pytest.mark.skipif(shutil.which("miltertest") is None, reason="miltertest is not installed")
def test_opendkims_miltertest(asked: Asked, tmp_path: Path) -> None:
    """Its script language drives a session of three messages with three outcomes."""
    script = tmp_path / "three.lua"
    script.write_text(MILTERTEST.format(socket=asked.socket, clerk=CLERK, mayor=MAYOR), "utf-8")
    done = subprocess.run(["miltertest", "-s", str(script)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_client_of_pypi(asked: Asked) -> None:
    """A second implementation of the protocol reads every packet of ours, edits included."""
    pytest.importorskip("miltertest")
    script = HERE / "miltertest_client.py"  # a program of its own: the library's licence is the GPL
    done = subprocess.run(
        [sys.executable, str(script), str(asked.socket)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines() == [
        "plain: a",
        "contractor: y 550 5.7.1",
        "city: d",
        "both: - a <everyone@city.example>",
    ]
