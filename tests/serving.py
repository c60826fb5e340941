"""What the tests stand on: a mail server that records octets, and a whole gateway in front of it, in this process.

The server records exactly what SMTP brings it and can be told to misbehave. The gateway is the real one, with its real
store, inspector, transformer and next-hop client; only its event loop is the test's.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.app import Gateway
from gateway.settings import Settings
from tests import pace

TEMPLATES = Path("config/templates").resolve()


@dataclass
class Received:
    """One message as the mail server got it."""

    mail: str
    rcpts: list[str]
    content: bytes
    """After dot-unstuffing, the final dot taken off."""


@dataclass
class MailServer:
    """A server that keeps what it is given. ``replies`` overrides the answer to a verb (``DOT``: end of data)."""

    keywords: tuple[str, ...] = ("PIPELINING", "8BITMIME", "SMTPUTF8", "DSN", "SIZE 200000000")
    replies: dict[str, bytes] = field(default_factory=dict)
    received: list[Received] = field(default_factory=list)
    unfinished: list[bytes] = field(default_factory=list)
    """Content that was cut off before the final dot."""
    commands: list[str] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    _server: asyncio.Server | None = None
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def __aenter__(self) -> "MailServer":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=2**24)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._server.wait_closed(), 2)

    async def wait_for(self, count: int, seconds: float = 10.0) -> list[Received]:
        """Until so many messages have come. Raises TimeoutError."""
        async with asyncio.timeout(pace.seconds(seconds)):
            while len(self.received) < count:
                self._arrived.clear()
                await self._arrived.wait()
        return self.received

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self._session(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mail, rcpts = "", list[str]()
        writer.write(b"220 sink.example ESMTP\r\n")
        while line := await reader.readline():
            command = line.decode("utf-8", "surrogateescape").rstrip("\r\n")
            self.commands.append(command)
            verb = command.split(" ")[0].upper()
            if verb in ("MAIL", "RCPT", "DATA") and verb in self.replies:
                writer.write(self.replies[verb])
                continue
            if verb in ("EHLO", "HELO"):
                rows = ["sink.example", *self.keywords]
                writer.write(
                    "".join(f"250{'-' if n < len(rows) - 1 else ' '}{r}\r\n" for n, r in enumerate(rows)).encode()
                )
            elif verb == "MAIL":
                mail, rcpts = command[5:], []
                writer.write(b"250 2.1.0 sender ok\r\n")
            elif verb == "RCPT":
                address = command.partition("<")[2].partition(">")[0]
                refusal = self.replies.get(f"RCPT {address}")
                if refusal is None:
                    rcpts.append(command[5:])
                writer.write(refusal or b"250 2.1.5 recipient ok\r\n")
            elif verb == "DATA":
                writer.write(b"354 go on\r\n")
                content = await self._content(reader)
                if content is None:
                    return
                answer = self.replies.get("DOT", b"250 2.0.0 queued as SINK1\r\n")
                if answer.startswith((b"250 ", b"250-")):
                    self.received.append(Received(mail, rcpts, content))
                    self._arrived.set()
                if answer == b"HANG":
                    await asyncio.sleep(3600)
                if answer == b"DROP":
                    return
                writer.write(answer)
            elif verb == "QUIT":
                writer.write(b"221 2.0.0 bye\r\n")
                return
            else:
                writer.write(b"250 2.0.0 ok\r\n")
            await writer.drain()

    async def _content(self, reader: asyncio.StreamReader) -> bytes | None:
        """Octet by octet semantics of RFC 5321: only CRLF.CRLF ends; a leading dot of a line is taken off."""
        data = bytearray(b"\r\n")
        while (end := data.find(b"\r\n.\r\n", max(0, len(data) - 70_000))) < 0:
            chunk = await reader.read(65536)
            if not chunk:
                self.unfinished.append(bytes(data[2:]))
                return None
            data += chunk
        assert end + 5 == len(data), "something came behind the end of data"
        return bytes(data[: end + 2]).replace(b"\r\n.", b"\r\n")[2:]


def settings_for(folder: Path, server: MailServer, **changes: Any) -> Settings:
    """Settings for a gateway that keeps everything below ``folder`` and forwards to ``server``."""
    values: dict[str, Any] = {
        "workers": 1,
        "listeners": [{"name": "proxy", "address": "127.0.0.1:0"}],
        "next_hop": {"address": f"127.0.0.1:{server.port}"},
        "smtp": {"hostname": "gateway.city.example", "drain_timeout": "2 s"},
        "spool": {"directory": str(folder / "spool")},
        "store": {"directory": str(folder / "store"), "key_file": str(folder / "store" / "body.key")},
        "encryption": {"certificates": str(folder / "certificates")},
        "outbox": {"poll_interval": "100 ms", "retry_first": "200 ms"},
        "notices": {"templates": str(TEMPLATES)},
        "metrics": {"directory": str(folder / "metrics")},
        "policy": {"rules": str(folder / "rules"), "directory": str(folder / "directory.yaml")},
        "clamd": {"address": f"unix:{folder}/clamd.sock", "config_file": None},
        "log": {"level": "error"},
    }
    for name, slice_ in changes.items():
        values[name] = {**values[name], **slice_} if isinstance(slice_, Mapping) and name in values else slice_
    return Settings.model_validate(values)


def prepare(folder: Path, rules: Mapping[str, str] | None = None, directory: str = "people: []\n") -> None:
    """Lay out rules (file name -> YAML) and a directory for :func:`settings_for`."""
    (folder / "rules" / "types").mkdir(parents=True, exist_ok=True)
    for name, text in (rules or {}).items():
        (folder / "rules" / f"{name}.yaml").write_text(text, encoding="utf-8")
    (folder / "directory.yaml").write_text(directory, encoding="utf-8")


@contextlib.asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Gateway]:
    """A gateway on this event loop, closed at the end."""
    gateway = Gateway(settings, Path("unused.yaml"))
    await gateway.start()
    try:
        yield gateway
    finally:
        await gateway.drain()


class Client:
    """An SMTP client that does exactly what a test says."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, port: int) -> "Client":
        """Connect; the greeting is not read yet."""
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=2**20))

    async def reply(self, seconds: float = 10.0) -> str:
        """The next whole reply, its lines joined with LF; ``""`` at the end of the connection."""
        lines = []
        async with asyncio.timeout(pace.seconds(seconds)):
            while True:
                line = (await self.reader.readline()).decode("utf-8", "replace").rstrip("\r\n")
                lines.append(line)
                if line[3:4] != "-":
                    return "\n".join(lines)

    async def say(self, line: str) -> str:
        """One command, its reply."""
        self.writer.write(line.encode("utf-8", "surrogateescape") + b"\r\n")
        return await self.reply()

    async def send(self, sender: str, recipients: list[str], content: bytes) -> str:
        """A whole transaction; the reply to the end of data, or the first refusal."""
        for line in (f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{r}>" for r in recipients), "DATA"):
            answer = await self.say(line)
            if answer[0] not in "23":
                return answer
        self.writer.write(content + (b"" if content.endswith(b"\r\n") else b"\r\n") + b".\r\n")
        return await self.reply(30)

    async def hello(self) -> "Client":
        """Read the greeting, say EHLO."""
        assert (await self.reply()).startswith("220 ")
        assert (await self.say("EHLO client.example")).startswith("250-")
        return self

    async def close(self) -> None:
        """Hang up."""
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()
