"""A mail server's end of the milter protocol, and a gateway that it can ask."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from pathlib import Path

from gateway.app import Gateway
from gateway.wire.milter import Action, Protocol, Step
from tests.serving import MailServer, prepare, running, settings_for

ALL_ACTIONS, ALL_STEPS = sum(Action), sum(Protocol)
RULES = {
    "legend": """
id: legend
title: A legend
source: [milwaukee/encrypted-email]
when: {header: {name: X-Legend, contains: "yes"}}
then: {legend: {id: one, lines: ["THIS IS CONFIDENTIAL"]}}
cases:
  - it: marks
    message: {from: a@city.example, to: b@city.example, text: x, headers: {X-Legend: "yes"}}
    expect: {transforms: [legend]}
  - it: leaves
    message: {from: a@city.example, to: b@city.example, text: x}
    expect: {disposition: pass}
""",
    "outbound": """
id: outbound
title: Nothing leaves
source: [milwaukee/encrypted-email]
direction: outbound
when: {header: {name: X-Stay, contains: "yes"}}
then: {reject: {code: 550, enhanced: 5.7.1, text: "100% of this stays"}}
cases:
  - it: stays
    message: {from: a@city.example, to: b@elsewhere.example, text: x, headers: {X-Stay: "yes"}}
    expect: {disposition: reject}
  - it: leaves
    message: {from: a@city.example, to: b@elsewhere.example, text: x}
    expect: {disposition: pass}
""",
    "blocked": """
id: blocked
title: Nothing for nobody
source: [milwaukee/encrypted-email]
when: {recipient: {address: nobody@city.example}}
then: {reject: {code: 550, enhanced: 5.1.1, text: "Nobody is here"}}
cases:
  - it: refuses
    message: {from: a@city.example, to: nobody@city.example, text: x}
    expect: {disposition: reject}
  - it: leaves
    message: {from: a@city.example, to: b@city.example, text: x}
    expect: {disposition: pass}
""",
}


class Asking:
    """A mail server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, port: int, actions: int = ALL_ACTIONS, steps: int = ALL_STEPS) -> "Asking":
        """Connect and negotiate."""
        one = cls(*await asyncio.open_connection("127.0.0.1", port))
        one.say(Step.OPTIONS, struct.pack("!III", 6, actions, steps))
        code, data = await one.answer()
        assert code == b"O"
        one.version, one.actions, one.steps = struct.unpack("!III", data)
        return one

    version = actions = steps = 0

    def say(self, step: Step, data: bytes = b"") -> None:
        """One packet."""
        self.writer.write(struct.pack("!I", 1 + len(data)) + step.value + data)

    async def answer(self, seconds: float = 20.0) -> tuple[bytes, bytes]:
        """The next packet. Raises IncompleteReadError at the end of the connection."""
        async with asyncio.timeout(seconds):
            (length,) = struct.unpack("!I", await self.reader.readexactly(4))
            whole = await self.reader.readexactly(length)
        return whole[:1], whole[1:]

    async def envelope(self, sender: str, *recipients: str) -> list[tuple[bytes, bytes]]:
        """MAIL and RCPT; their answers. MAIL's is «continue» where none was agreed."""
        self.say(Step.MAIL, f"<{sender}>\0".encode())
        answers = [(b"c", b"") if self.steps & Protocol.SILENT_MAIL else await self.answer()]
        for recipient in recipients:
            self.say(Step.RCPT, f"<{recipient}>\0".encode())
            answers.append(await self.answer())
        return answers

    def header(self, *fields: tuple[str, str]) -> None:
        """Header fields and the header's end."""
        for name, value in fields:
            self.say(Step.HEADER, f"{name}\0 {value}\0".encode())
        self.say(Step.END_OF_HEADER)

    async def end(self, body: bytes = b"", seconds: float = 20.0) -> list[tuple[bytes, bytes]]:
        """The end of the message; all answers up to the one that ends it. ``seconds``: for each of them."""
        self.say(Step.END_OF_BODY, body)
        answers = [await self.answer(seconds)]
        while answers[-1][0] not in b"catdyr":
            answers.append(await self.answer(seconds))
        return answers

    async def close(self) -> None:
        """Gone."""
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


@contextlib.asynccontextmanager
async def milter(
    folder: Path, server: MailServer, rules: dict[str, str] | None = None, **changes: object
) -> AsyncIterator[int]:
    """A gateway with a milter listener; its port."""
    async with beside(folder, server, rules, **changes) as (_, port):
        yield port


@contextlib.asynccontextmanager
async def beside(
    folder: Path, server: MailServer, rules: dict[str, str] | None = None, **changes: object
) -> AsyncIterator[tuple[Gateway, int]]:
    """The same, and the gateway itself."""
    prepare(folder, RULES if rules is None else rules)
    listening = {"listeners": [{"name": "beside", "address": "127.0.0.1:0"}], **(changes.pop("milter", None) or {})}  # type: ignore[dict-item]
    async with running(settings_for(folder, server, milter=listening, **changes)) as gateway:
        yield gateway, gateway.ports[1]
