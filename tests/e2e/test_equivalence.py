"""The same mail through both fronts: the same dispositions, and the same octets at the other end.

Through the SMTP front, and through a Postfix that asks the milter front; both gateways have the same rules. Compared
for each message: what the client reads, what is held for whom, what arrives for whom. Trace fields that a server adds
are taken off; what was encrypted is opened. Differences that the protocol forces stand in docs/milter.md and below.
"""

import contextlib
import re
import smtplib
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.e2e.letters import Certificate, certificate
from tests.e2e.many import INSIDE, Mail, every_message
from tests.e2e.postfix import installed, open_folder, running_postfix
from tests.e2e.running import RULES, CityGateway, Nursery, Sink, running_city, said
from tests.e2e.test_controls import switched
from tests.ports import free_ports
from tests.serving import Received

pytestmark = [pytest.mark.real, pytest.mark.skipif(not installed(), reason="Postfix is not installed, or not root")]

MODES = {
    "caution-banner": "enforce",
    "contractor-signature-block": "off",
    "contractor-signature-block-insert": "enforce",
}
FORCED = {
    "a loop": "Postfix counts hops itself, and refuses at another number of them",
}
"""What may differ, by the message's description, and why."""
_NAME = re.compile(rb"many-\d+-mark")
_ID = re.compile(r"\(?\b[0-9A-HJKMNP-TV-Z]{18}\b\)?")
_TRACE = re.compile(rb"\A(?:(?:Received|X-Civicgate-Released):[^\n]*\n(?:[ \t][^\n]*\n)*)*")


@dataclass
class Way:
    """One way through: where clients connect, which gateway decides, where it ends."""

    port: int
    gateway: CityGateway
    sink: Sink
    replies: dict[str, str] = field(default_factory=dict)

    def send(self, mail: Mail) -> str:
        """One message; the refusals of recipients and the last reply."""
        with contextlib.closing(
            smtplib.SMTP("127.0.0.1", self.port, local_hostname="desk.example", timeout=90)
        ) as smtp:
            smtp.ehlo()
            if mail.client != INSIDE:
                smtp.docmd("XCLIENT", f"ADDR={mail.client} NAME=[UNAVAILABLE] HELO=far.example")
                smtp.ehlo()
            smtp.command_encoding = "utf-8"
            said_ = [said(*smtp.docmd(" ".join((f"MAIL FROM:<{mail.sender}>", *mail.parameters))))]
            accepted = 0
            for recipient in mail.recipients if said_[0].startswith("250") else ():
                code, text = smtp.docmd(f"RCPT TO:<{recipient}>")
                accepted += code == 250
                if code != 250:
                    said_.append(said(code, text))
            if accepted:
                said_.append(said(*smtp.data(mail.content)))
        return "; ".join(_ID.sub("ID", line) if not line.startswith("2") else "250" for line in said_[1:] or said_)

    def settle(self, seconds: float = 120.0) -> None:
        """Until nothing has come for two seconds and the outbox is empty."""
        deadline, seen, since = time.monotonic() + seconds, -1, time.monotonic()
        while time.monotonic() < deadline:
            now = len(self.sink.all())
            if now != seen:
                seen, since = now, time.monotonic()
            if time.monotonic() - since > 2.0:
                return
            time.sleep(0.1)
        raise AssertionError("mail goes on arriving")


@dataclass(frozen=True)
class Outcome:
    """What became of one message."""

    reply: str
    held: tuple[tuple[str, tuple[str, ...]], ...]
    """Queue and recipients of each held item."""
    arrived: tuple[tuple[tuple[str, ...], bytes], ...]
    """Recipients and octets of each delivery."""


@pytest.fixture(scope="module")
def ways(
    tmp_path_factory: pytest.TempPathFactory, nursery: Nursery, clamd: Path
) -> Iterator[tuple[Way, Way, Certificate]]:
    """In front, beside, and the key of elsewhere.example."""
    keywords = ("8BITMIME", "SMTPUTF8", "DSN", "SIZE 200000000", "XFORWARD NAME ADDR PROTO HELO SOURCE PORT")
    folder = tmp_path_factory.mktemp("ways")
    (port,) = free_ports(1)
    rules = switched(RULES, folder / "rules", **MODES)
    with contextlib.ExitStack() as stack:
        socket = stack.enter_context(open_folder()) / "milter.sock"
        sinks = [stack.enter_context(Sink(keywords=keywords)) for _ in range(2)]
        gateways = [
            stack.enter_context(
                running_city(
                    folder / name,
                    nursery,
                    sink.port,
                    rules,
                    workers=1,
                    clamd={"address": f"unix:{clamd}"},
                    milter={"listeners": [{"name": "beside", "address": f"unix:{socket}", "mode": "0666"}]}
                    if name == "beside"
                    else {},
                )
            )
            for name, sink in zip(("front", "beside"), sinks, strict=True)
        ]
        stack.enter_context(
            running_postfix(
                "front.city.example",
                {port: ""},
                {
                    "relayhost": f"[127.0.0.1]:{sinks[1].port}",
                    "smtpd_milters": f"unix:{socket}",
                    "milter_default_action": "tempfail",
                },
            )
        )
        key = certificate(gateways[0].certificates, folder, "@elsewhere.example")
        (gateways[1].certificates / key.file.name).write_bytes(key.file.read_bytes())
        yield (
            Way(gateways[0].port, gateways[0], sinks[0]),
            Way(port, gateways[1], sinks[1]),
            key,
        )


def test_both_fronts_do_the_same(ways: tuple[Way, Way, Certificate]) -> None:
    """More than three hundred messages, one outcome each."""
    front, beside, key = ways
    mails = every_message()
    assert len(mails) >= 300
    with ThreadPoolExecutor(6) as pool:
        for way in (front, beside):
            way.replies = dict(zip((m.name for m in mails), pool.map(way.send, mails), strict=True))
    one, other = (outcomes(way, key) for way in (front, beside))
    assert sum(bool(found.held) for found in one.values()) > 20
    assert sum(found.reply != "250" for found in one.values()) > 20
    different = [
        f"{mail.about} ({mail.name}):\n  in front {show(one[mail.name])}\n  beside   {show(other[mail.name])}"
        for mail in mails
        if one[mail.name] != other[mail.name] and mail.about.partition(",")[0] not in FORCED
    ]
    assert not different, f"{len(different)} of {len(mails)} differ:\n" + "\n".join(different)


def outcomes(way: Way, key: Certificate) -> dict[str, Outcome]:
    """What became of every message."""
    way.settle()
    arrived: dict[str, list[tuple[tuple[str, ...], bytes]]] = defaultdict(list)
    for got in way.sink.all():
        content = opened(got, key)
        name = _NAME.search(content)
        if name is not None and b"\nFrom: Civicgate <" not in b"\n" + content:
            arrived[name[0].decode()].append((addresses(got), content))
    held: dict[str, list[tuple[str, tuple[str, ...]]]] = defaultdict(list)
    names = transactions(way.gateway.log)
    for item in way.gateway.held("all"):
        held[names[item["transaction"]]].append((item["queue"], tuple(sorted(item["recipients"]))))
    return {
        name: Outcome(reply, tuple(sorted(held[name])), tuple(sorted(arrived[name])))
        for name, reply in way.replies.items()
    }


def transactions(log: str) -> dict[str, str]:
    """Transaction id to the message's name."""
    found = re.findall(r" message .*?\bid=(\S+).* message_id=<(many-\d+-mark)@", log)
    return dict(found)


def addresses(got: Received) -> tuple[str, ...]:
    """Envelope recipients; a server may name one twice."""
    return tuple(sorted({path.partition("<")[2].partition(">")[0].lower() for path in got.rcpts}))


def opened(got: Received, key: Certificate) -> bytes:
    """The message without the trace on top; if it is encrypted, its outer fields and what is inside."""
    content = _TRACE.sub(b"", got.content, count=1)
    if b"smime-type=enveloped-data" not in content.partition(b"\r\n\r\n")[0]:
        return content
    return content.partition(b"\r\n\r\n")[0] + b"\r\n[sealed]\r\n" + key.open(content)


def show(found: Outcome) -> str:
    """Shortly."""
    arrived = [(to, len(content), content[:400]) for to, content in found.arrived]
    return f"reply={found.reply!r} held={found.held} arrived={arrived}"
