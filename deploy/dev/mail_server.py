"""A mail server for development: accepts everything, keeps the last messages, prints one line for each.

Speaks ESMTP with SIZE, 8BITMIME, SMTPUTF8, DSN, PIPELINING, ENHANCEDSTATUSCODES and XFORWARD, in chunks, so that 50 MB
take a moment only. Messages go to a folder as ``NNNNN.eml`` with their envelope on top (``X-Envelope-From``,
``X-Envelope-To``). Refuses nothing but broken syntax. Not a mail server to keep mail in.

Alone: ``python -m deploy.dev.mail_server [PORT]``.
"""

import asyncio
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path

HOST, PORT = "127.0.0.1", 10026
KEEP = 200
"""Messages kept; older ones are removed."""
MAX_SIZE = 200_000_000
_KEPT = 1 << 20
"""Octets of each message that stay in memory; the file has all of them."""
_PARSER = BytesParser(policy=policy.default.clone(refold_source="none"))


@dataclass(frozen=True, slots=True)
class Received:
    """One message as it arrived."""

    number: int
    sender: str
    sender_parameters: tuple[str, ...]
    recipients: tuple[str, ...]
    recipient_parameters: tuple[tuple[str, ...], ...]
    content: bytes
    """As sent, dot-unstuffed; its first megabyte when it is larger."""
    size: int

    def message(self) -> EmailMessage:
        """The content, parsed."""
        return _PARSER.parsebytes(self.content)


@dataclass(slots=True)
class _Transaction:
    sender: str = ""
    sender_parameters: tuple[str, ...] = ()
    recipients: list[str] = field(default_factory=list)
    recipient_parameters: list[tuple[str, ...]] = field(default_factory=list)


class MailServer:
    """The server. ``received`` holds what came since the start, at most :data:`KEEP` messages."""

    def __init__(self, folder: Path | None = None, show: Callable[[str], None] | None = None) -> None:
        self.received: list[Received] = []
        self.port = 0
        self._folder = folder
        self.show = show
        """Gets one line for each message; may be set later."""
        self._count = 0
        self._arrived = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._sessions: set[asyncio.Task[None]] = set()

    async def start(self, host: str = HOST, port: int = PORT) -> None:
        """Listen. ``port`` 0 takes a free one; :attr:`port` says which. Raises OSError when the port is taken."""
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            numbers = [int(file.stem) for file in self._folder.glob("*.eml") if file.stem.isdigit()]
            self._count = max(numbers, default=0)
        self._server = await asyncio.start_server(self._accept, host, port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close the port and every session."""
        if self._server is not None:
            self._server.close()
        for task in list(self._sessions):
            task.cancel()
        await asyncio.gather(*self._sessions, return_exceptions=True)

    async def wait(self, enough: Callable[[list[Received]], bool], seconds: float) -> bool:
        """Wait until ``enough`` says so of what has been received; False when the time is over first."""
        try:
            async with asyncio.timeout(seconds), self._arrived:
                await self._arrived.wait_for(lambda: enough(self.received))
        except TimeoutError:
            return False
        return True

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._sessions.add(task)
        try:
            with suppress(ConnectionError, ValueError):
                await self._session(reader, writer)
        finally:
            self._sessions.discard(task)
            writer.close()

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP development mail server\r\n")
        transaction: _Transaction | None = None
        stream = _Stream(reader)
        while line := await stream.line():
            text = line.decode("utf-8", "surrogateescape").rstrip("\r\n")
            verb = text[:4].upper()
            if verb == "MAIL":
                path, parameters = _path(text)
                transaction = _Transaction(path, parameters)
                writer.write(b"250 2.1.0 Sender OK\r\n")
            elif verb == "RCPT" and transaction is not None:
                path, parameters = _path(text)
                transaction.recipients.append(path)
                transaction.recipient_parameters.append(parameters)
                writer.write(b"250 2.1.5 Recipient OK\r\n")
            elif verb == "DATA" and transaction is not None and transaction.recipients:
                writer.write(b"354 Go ahead\r\n")
                await writer.drain()
                number = await self._keep(transaction, await stream.data())
                writer.write(f"250 2.0.0 Received as {number:05d}\r\n".encode())
                transaction = None
            elif verb == "RSET":
                transaction = None
                writer.write(b"250 2.0.0 OK\r\n")
            elif verb == "QUIT":
                writer.write(b"221 2.0.0 Bye\r\n")
                await writer.drain()
                return
            else:
                writer.write(_other(verb))
            await writer.drain()

    async def _keep(self, transaction: _Transaction, content: bytes) -> int:
        self._count += 1
        received = Received(
            self._count,
            transaction.sender,
            transaction.sender_parameters,
            tuple(transaction.recipients),
            tuple(transaction.recipient_parameters),
            content[:_KEPT],
            len(content),
        )
        if self._folder is not None:
            self._write(self._folder, received, content)
        if self.show is not None:
            self.show(_line(received))
        async with self._arrived:
            self.received.append(received)
            del self.received[:-KEEP]
            self._arrived.notify_all()
        return received.number

    def _write(self, folder: Path, received: Received, content: bytes) -> None:
        rows = [f"X-Envelope-From: <{printable(received.sender)}>"]
        rows += [f"X-Envelope-To: <{printable(address)}>" for address in received.recipients[:100]]
        head = "".join(row + "\r\n" for row in rows).encode("utf-8", "replace")
        (folder / f"{received.number:05d}.eml").write_bytes(head + content)
        (folder / f"{received.number - KEEP:05d}.eml").unlink(missing_ok=True)


def _line(received: Received) -> str:
    subject = " ".join(str(received.message().get("Subject", "")).split())[:60]
    to = ", ".join(received.recipients[:3]) + (" …" if len(received.recipients) > 3 else "")
    return printable(f"{received.number:05d}  <{received.sender}> → {to}  {received.size:,} octets  {subject}")


def printable(text: str) -> str:
    """Safe for a terminal: control characters and undecodable octets become ``?``."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _path(line: str) -> tuple[str, tuple[str, ...]]:
    """``MAIL FROM:<a@b> SIZE=1`` -> ``("a@b", ("SIZE=1",))``."""
    rest = line.partition(":")[2].strip()
    address, _, parameters = rest.removeprefix("<").partition(">")
    return address, tuple(parameters.split())


_EHLO = (
    "mail.example",
    f"SIZE {MAX_SIZE}",
    "PIPELINING",
    "8BITMIME",
    "SMTPUTF8",
    "DSN",
    "ENHANCEDSTATUSCODES",
    "XFORWARD NAME ADDR PORT PROTO HELO SOURCE",
)


def _other(verb: str) -> bytes:
    """The reply to a command that changes nothing here."""
    if verb == "EHLO":
        return b"".join(f"250{'-' if word != _EHLO[-1] else ' '}{word}\r\n".encode() for word in _EHLO)
    if verb == "HELO":
        return b"250 mail.example\r\n"
    if verb in ("NOOP", "XFOR"):
        return b"250 2.0.0 OK\r\n"
    if verb in ("RCPT", "DATA"):
        return b"503 5.5.1 Say MAIL and RCPT first\r\n"
    return b"500 5.5.2 Not known here\r\n"


class _Stream:
    """Lines and messages out of one connection; what is pipelined behind a message stays for the next line."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._buffer = bytearray()

    async def line(self) -> bytes:
        """The next line with its end, ``b""`` when the client has gone. Raises ValueError past 64 KiB."""
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > 65536:
                raise ValueError("line too long")
            if not await self._more():
                return b""
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        return line

    async def data(self) -> bytes:
        """Everything before the final dot, dot-unstuffed. Raises ConnectionError when the client goes first."""
        looked = 0
        self._buffer[:0] = b"\r\n"
        while (end := self._buffer.find(b"\r\n.\r\n", looked)) < 0:
            looked = max(0, len(self._buffer) - 4)
            if not await self._more():
                raise ConnectionResetError
        content = self._buffer[: end + 2].replace(b"\r\n..", b"\r\n.")[2:]
        del self._buffer[: end + 5]
        return bytes(content)

    async def _more(self) -> bool:
        piece = await self._reader.read(262_144)
        self._buffer += piece
        return bool(piece)


async def _alone(port: int) -> None:
    server = MailServer(Path("var/received"), print)
    await server.start(port=port)
    print(f"Mail server on {HOST}:{server.port}, messages in var/received. Ctrl-C ends it.")
    try:
        await asyncio.Event().wait()
    finally:
        await server.stop()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(_alone(int(sys.argv[1]) if len(sys.argv) > 1 else PORT))
