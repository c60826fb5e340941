"""The lines of ``docs/postfix.md`` and ``docs/milter.md`` in a real Postfix on one machine, back into itself."""

import contextlib
import re
import shutil
import smtplib
import subprocess
from pathlib import Path

import pytest

from tests.e2e.postfix import installed, running_postfix
from tests.e2e.running import Nursery, Sink, city_gateway, said, transact
from tests.ports import free_ports

pytestmark = [pytest.mark.real, pytest.mark.skipif(not installed(), reason="Postfix is not installed, or not root")]

DOCUMENTS = Path(__file__).parents[2] / "docs"


def _blocks(name: str, document: str = "postfix.md") -> list[str]:
    text = (DOCUMENTS / document).read_text("utf-8")
    return re.findall(rf"<!-- {re.escape(name)} -->\n```\n(.*?)```", text, re.DOTALL)


def _main(document: str) -> dict[str, str]:
    return dict(re.split(r"\s*=\s*", row, maxsplit=1) for row in _blocks("main.cf", document)[0].splitlines())


def _options(service: str) -> str:
    """The ``-o`` lines of one service of the first master.cf block."""
    lines = _blocks("master.cf")[0].split(service, 1)[1].splitlines()[1:]
    kept = []
    for line in lines:
        if not line.startswith(" "):
            break
        kept.append(line.strip())
    return " ".join(kept)


def test_the_documented_lines_carry_mail(tmp_path: Path, nursery: Nursery, clamd: Path) -> None:
    """Mail passes the gateway once and keeps its client, no loop arises, and a refusal has the policy's words."""
    front, back = free_ports(2)
    gateway = city_gateway(tmp_path / "g", nursery, back, clamd={"address": f"unix:{clamd}"})
    main = _main("postfix.md")
    services = {front: _options("smtp "), back: _options("127.0.0.1:10026")}
    services = {port: options.replace(":10025", f":{gateway.port}") for port, options in services.items()}
    with contextlib.ExitStack() as stack:
        sink = stack.enter_context(Sink(keywords=("8BITMIME", "SMTPUTF8", "DSN", "SIZE 200000000")))
        # global: without the empty one at the way back this would be a loop
        main |= {"relayhost": f"[127.0.0.1]:{sink.port}", "smtpd_proxy_filter": f"127.0.0.1:{gateway.port}"}
        stack.enter_context(running_postfix("mail.city.example", services, main))
        stack.callback(gateway.end)
        gateway.start()
        with smtplib.SMTP("127.0.0.1", front, timeout=30) as smtp:
            smtp.ehlo()
            reply = transact(smtp, "clerk@city.example", ["mayor@city.example"], b"X-Mark: documented\r\n\r\nx\r\n")
            assert reply.startswith("250 2.0.0 Ok: queued as "), reply
            large = smtp.docmd("MAIL", "FROM:<clerk@city.example> SIZE=60000000")
            rcpt = smtp.docmd("RCPT", "TO:<mayor@city.example>")
        arrived = sink.wait(b"documented", seconds=20)[0].content
        assert arrived.count(b"(Civicgate)") == 1
        assert "552 5.3.4" in said(*large) + said(*rcpt)
        assert "files.city.example" in said(*large) + said(*rcpt)


def test_the_documented_milter_lines_carry_mail(tmp_path: Path, nursery: Nursery, clamd: Path) -> None:
    """In a chroot, as Debian has it: mail is deferred while the gateway is not there, then passes, is held and told."""
    front, back = free_ports(2)
    main = _main("milter.md")
    with Sink(keywords=("8BITMIME", "SMTPUTF8", "DSN", "SIZE 200000000")) as sink:
        main["relayhost"] = f"[127.0.0.1]:{sink.port}"
        services = {front: "", back: _options("127.0.0.1:10026")}
        with running_postfix("mail.city.example", services, main, chroot=True) as postfix:
            folder = postfix.folder / "queue" / "civicgate"
            reply = _say(front, "mayor@city.example", b"x\r\n")
            assert reply == "451 4.7.1 Service unavailable - try again later"
            assert "connect to Milter service unix:civicgate/milter.sock: No such file or directory" in postfix.log
            subprocess.run(["install", "-d", "-g", "postfix", "-m", "2750", str(folder)], check=True)
            milter = {"listeners": [{"name": "beside", "address": f"unix:{folder}/milter.sock"}]}
            gateway = city_gateway(tmp_path / "g", nursery, back, clamd={"address": f"unix:{clamd}"}, milter=milter)
            try:
                gateway.start()
                _carries(front, sink)
                socket = folder / "milter.sock"
                assert (socket.group(), socket.stat().st_mode & 0o777) == ("postfix", 0o660)
                check = [shutil.which("postfix", path="/usr/sbin") or "", "-c", str(postfix.folder / "etc"), "check"]
                assert "queue/civicgate" not in subprocess.run(check, capture_output=True, text=True, check=True).stderr
            finally:
                gateway.end()


def _carries(front: int, sink: Sink) -> None:
    """Mail, and the notice of what is held, which comes by the way back."""
    reply = _say(front, "mayor@city.example", b"X-Mark: documented\r\n\r\nx\r\n")
    assert reply.startswith("250 2.0.0 Ok: queued as "), reply
    assert b"(Civicgate)" not in sink.wait(b"documented", seconds=20)[0].content
    reply = _say(front, "everyone@city.example", b"Subject: to all\r\n\r\nx\r\n")
    assert reply.startswith("250 2.0.0 Ok: queued as "), reply
    sink.wait_to("clerk@city.example", b"to all", seconds=20)
    with smtplib.SMTP("127.0.0.1", front, timeout=30) as smtp:
        smtp.ehlo()
        assert smtp.docmd("MAIL", "FROM:<clerk@city.example> SIZE=60000000")[0] == 250  # no rule refuses senders
        assert said(*smtp.docmd("RCPT", "TO:<mayor@city.example>")).startswith("552 5.3.4 ")


def _say(front: int, to: str, content: bytes) -> str:
    with smtplib.SMTP("127.0.0.1", front, timeout=30) as smtp:
        smtp.ehlo()
        return transact(smtp, "clerk@city.example", [to], content)
