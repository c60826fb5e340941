"""A next hop by script on a real socket: honest unless told otherwise, and it remembers what it was told."""

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from gateway.deliver import NextHop
from gateway.model.envelope import Client

CLOSE = b"<close>"
HANG = b"<hang>"
OK = b"250 2.0.0 Ok\r\n"
CLIENT = Client("192.0.2.1", 1234, "mail.example", "mail.example")


def ehlo(*keywords: str) -> bytes:
    """A reply to EHLO."""
    lines = ["hop.example", *keywords]
    return "".join(f"250{'-' if n < len(lines) - 1 else ' '}{line}\r\n" for n, line in enumerate(lines)).encode()


@dataclass
class Server:
    """Answers each verb with ``replies[verb]``; a list is used up one by one, its last item stays.

    :data:`CLOSE` at the end of a reply closes the connection, :data:`HANG` answers nothing. ``pieces`` cuts what is
    sent. ``early`` is answered after so many octets of content.
    """

    replies: dict[str, bytes | list[bytes]] = field(default_factory=dict)
    pieces: Callable[[bytes], list[bytes]] | None = None
    early: tuple[int, bytes] | None = None
    context: ssl.SSLContext | None = None
    sessions: list[list[str]] = field(default_factory=list)
    """Command lines, by connection."""
    messages: list[bytes] = field(default_factory=list)
    """Content as it came, with its final dot."""
    broken: list[bytes] = field(default_factory=list)
    """Content whose connection ended before the final dot."""
    live: int = 0
    endings: int = 0
    sni: list[str | None] = field(default_factory=list)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    def reply(self, verb: str) -> bytes:
        """What to answer now."""
        standard = {
            "CONNECT": b"220 hop.example ESMTP\r\n",
            "EHLO": ehlo("PIPELINING", "SIZE 1000000", "8BITMIME", "SMTPUTF8", "DSN"),
            "DATA": b"354 go on\r\n",
            ".": b"250 2.0.0 queued\r\n",
            "QUIT": b"221 2.0.0 bye\r\n" + CLOSE,
            "STARTTLS": b"220 2.0.0 ready\r\n",
        }
        answer = self.replies.get(verb, standard.get(verb, OK))
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        return answer

    async def session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        commands: list[str] = []
        self.sessions.append(commands)
        self.writers.append(writer)
        self.live += 1
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._talk(reader, writer, commands)
        finally:
            self.live -= 1
            self.endings += 1
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, commands: list[str]) -> None:
        if not await self._answer(writer, self.reply("CONNECT")):
            return
        while line := await reader.readline():
            commands.append(line.decode("utf-8").rstrip("\r\n"))
            verb = commands[-1].partition(" ")[0].upper()
            answer = self.reply(verb)
            if not await self._answer(writer, answer):
                return
            if verb == "STARTTLS" and answer.startswith(b"220") and self.context is not None:
                await writer.start_tls(self.context)
            if verb == "DATA" and answer.startswith(b"354") and not await self._content(reader, writer):
                return

    async def _content(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        content = bytearray()
        early = self.early
        while not (content[-5:] == b"\r\n.\r\n" or content == b".\r\n"):
            if early is not None and len(content) >= early[0]:
                if not await self._answer(writer, early[1]):
                    writer.write_eof()  # closing with octets unread would reset, and the reply could get lost
                    while await reader.read(65536):
                        pass
                    return False
                early = None
            try:
                piece = await reader.read(65536)
            except OSError:
                piece = b""
            if not piece:
                self.broken.append(bytes(content))
                return False
            content += piece
        self.messages.append(bytes(content))
        return await self._answer(writer, self.reply("."))

    async def _answer(self, writer: asyncio.StreamWriter, answer: bytes) -> bool:
        closing = answer.endswith(CLOSE)
        answer = answer.removesuffix(CLOSE).removesuffix(HANG)
        for piece in self.pieces(answer) if self.pieces else [answer]:
            writer.write(piece)
            await writer.drain()
            if self.pieces:
                await asyncio.sleep(0.0002)
        return not closing


Starter = Callable[..., Awaitable[tuple[Server, NextHop]]]


async def eventually(claim: Callable[[], bool], seconds: float = 2.0) -> None:
    """Wait until ``claim`` holds; fail when it does not in time."""
    async with asyncio.timeout(seconds):
        while not claim():
            await asyncio.sleep(0.002)


async def relay(hop: NextHop, content: bytes = b"Subject: x\r\n\r\nhello\r\n") -> str:
    """One message to one recipient; the final reply as text."""
    transaction = await hop.begin(CLIENT, "a@example.org", ())
    reply = await transaction.rcpt("b@city.example")
    assert reply.positive, reply
    return str(await transaction.send([content]))
