"""The lines of ``docs/postfix.md`` in a real Postfix: one machine, before the queue, back into the same Postfix."""

import contextlib
import re
import smtplib
from pathlib import Path

import pytest

from tests.e2e.postfix import installed, running_postfix
from tests.e2e.running import Nursery, Sink, city_gateway, said, transact
from tests.ports import free_ports

pytestmark = [pytest.mark.real, pytest.mark.skipif(not installed(), reason="Postfix is not installed, or not root")]

DOCUMENT = Path(__file__).parents[2] / "docs" / "postfix.md"


def _blocks(name: str) -> list[str]:
    return re.findall(rf"<!-- {re.escape(name)} -->\n```\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)


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
    main = dict(re.split(r"\s*=\s*", row, maxsplit=1) for row in _blocks("main.cf")[0].splitlines())
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
