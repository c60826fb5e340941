"""The development mail server, over a real socket."""

import asyncio
import smtplib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deploy.dev.mail_server import KEEP, MailServer


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[MailServer]:
    """One on a free port, writing to a folder of the test."""
    server = MailServer(tmp_path)
    await server.start(port=0)
    yield server
    await server.stop()


async def _speak(port: int, pieces: list[bytes]) -> bytes:
    """Send the pieces one by one; everything that came back until the server closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0)
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


_DIALOG = (
    b"EHLO a.example\r\nMAIL FROM:<a@a.example> SIZE=9 RET=HDRS\r\nRCPT TO:<b@b.example> NOTIFY=NEVER\r\nDATA\r\n"
    b"S: 1\r\n\r\n..x\r\n.y\r\n.\r\nMAIL FROM:<>\r\nRCPT TO:<c@c.example>\r\nDATA\r\n.\r\nQUIT\r\n"
)


@pytest.mark.parametrize("size", [1, 7, len(_DIALOG)])
async def test_takes_pipelined_mail_however_it_is_cut(server: MailServer, size: int) -> None:
    """Two pipelined messages arrive as two, dots unstuffed, whether sent whole or octet by octet."""
    answer = await _speak(server.port, [_DIALOG[at : at + size] for at in range(0, len(_DIALOG), size)])
    assert answer.count(b"250 2.0.0 Received as") == 2
    assert answer.endswith(b"221 2.0.0 Bye\r\n")
    first, second = server.received
    assert first.content == b"S: 1\r\n\r\n.x\r\n.y\r\n"
    assert (first.sender, first.sender_parameters) == ("a@a.example", ("SIZE=9", "RET=HDRS"))
    assert (first.recipients, first.recipient_parameters) == (("b@b.example",), (("NOTIFY=NEVER",),))
    assert (second.sender, second.content) == ("", b"")


async def test_keeps_the_whole_of_a_large_message_in_the_file(server: MailServer, tmp_path: Path) -> None:
    """Of 3 MB the first megabyte stays in memory and all of it in the file, below the envelope."""
    message = b"Subject: large\r\n\r\n" + b"0123456789\r\n" * 250_000
    await asyncio.to_thread(_send, server.port, message)
    (received,) = server.received
    assert (received.size, len(received.content)) == (len(message), 1 << 20)
    kept = (tmp_path / "00001.eml").read_bytes()
    assert kept == b"X-Envelope-From: <a@a.example>\r\nX-Envelope-To: <b@b.example>\r\n" + message


def _send(port: int, message: bytes) -> None:
    with smtplib.SMTP("127.0.0.1", port, "client.example", timeout=10) as smtp:
        smtp.sendmail("a@a.example", ["b@b.example"], message)


async def test_says_one_harmless_line_for_each_message(server: MailServer) -> None:
    """What is shown names sender, recipients, size and subject, without control characters from the mail."""
    shown: list[str] = []
    server.show = shown.append
    await asyncio.to_thread(_send, server.port, b"Subject: red \x1b[31malert\r\n\r\nx\r\n")
    assert len(shown) == 1
    assert shown[0].isprintable()
    assert "<a@a.example> → b@b.example" in shown[0]


def _files(folder: Path) -> list[Path]:
    return list(folder.glob("*.eml"))


async def test_forgets_the_oldest(server: MailServer, tmp_path: Path) -> None:
    """Only the last messages are kept, in memory and in the folder."""
    one = b"MAIL FROM:<>\r\nRCPT TO:<c@c.example>\r\nDATA\r\nS: x\r\n.\r\n"
    await _speak(server.port, [b"EHLO a.example\r\n" + one * (KEEP + 3) + b"QUIT\r\n"])
    assert [received.number for received in server.received] == list(range(4, KEEP + 4))
    assert len(_files(tmp_path)) == KEEP


async def test_waits_for_what_arrives_and_not_for_ever(server: MailServer) -> None:
    """``wait`` ends when enough has come, and says no when the time is over."""
    assert not await server.wait(bool, 0.05)
    waiting = asyncio.create_task(server.wait(bool, 10))
    await asyncio.to_thread(_send, server.port, b"Subject: x\r\n\r\nx\r\n")
    assert await waiting
