"""Conversations from text files: whole turns, byte by byte, and split at random; the answers must not differ."""

import asyncio
import random
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.serving import Client, MailServer, prepare, running, settings_for

FOLDER = Path(__file__).parent
FILES = sorted(FOLDER.glob("*.txt"))


@dataclass
class Dialog:
    """One file, read."""

    steps: list[tuple[str, str]] = field(default_factory=list)
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    replies: dict[str, bytes] = field(default_factory=dict)
    keywords: tuple[str, ...] | None = None


def octets(text: str) -> bytes:
    """Text with Python's escapes -> octets."""
    return text.encode("utf-8").decode("unicode_escape").encode("latin-1")


def read(path: Path) -> Dialog:
    """A dialog file; an unknown line is an error."""
    dialog = Dialog()
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        word, _, rest = line.partition(" ")
        if not line or word == "#":
            continue
        if word == "SET":
            name, _, value = rest.partition("=")
            slice_, _, key = name.partition(".")
            dialog.settings.setdefault(slice_, {})[key] = [] if value == "[]" else value
        elif word == "NEXT" and rest.startswith("KEYWORDS"):
            dialog.keywords = tuple(rest.removeprefix("KEYWORDS").strip().split(",")) if rest != "KEYWORDS" else ()
        elif word == "NEXT":
            verb, _, reply = rest.partition(" ")
            dialog.replies[verb] = octets(reply) + b"\r\n"
        elif word in ("C:", "C!", "S:", "CLOSED", "ARRIVED", "CONTENT"):
            dialog.steps.append((word, rest))
        else:
            pytest.fail(f"{path.name}:{number}: what is «{line}»?")
    return dialog


def pieces(data: bytes, mode: str) -> Iterator[bytes]:
    """The same octets, cut differently."""
    if mode == "whole":
        yield data
    elif mode == "bytes":
        yield from (data[n : n + 1] for n in range(len(data)))
    else:
        dice = random.Random(mode)
        while data:
            size = dice.choice((1, 1, 2, 3, 5, 8, 40, 1000))
            yield data[:size]
            data = data[size:]


async def lines(client: Client) -> AsyncIterator[str]:
    """Reply lines, ``CLOSED`` at the end."""
    while True:
        async with asyncio.timeout(10):
            raw = await client.reader.readline()
        yield raw.decode("utf-8", "replace").rstrip("\r\n") if raw else "CLOSED"


async def play(dialog: Dialog, client: Client, server: MailServer, mode: str) -> None:
    """Run one conversation and compare every line."""
    heard = lines(client)
    turn = b""
    for word, text in [*dialog.steps, ("END", "")]:
        if word == "C:":
            turn += text.encode("utf-8") + b"\r\n"
            continue
        if word == "C!":
            turn += octets(text)
            continue
        for piece in pieces(turn, mode):
            client.writer.write(piece)
            await client.writer.drain()
            if mode != "whole":
                await asyncio.sleep(0)
        turn = b""
        if word == "S:":
            expected = ".*".join(re.escape(part) for part in text.split("…"))
            line = await anext(heard)
            assert re.fullmatch(expected, line), f"{mode}: expected «{text}», got «{line}»"
        elif word == "CLOSED":
            line = await anext(heard)
            assert line == "CLOSED", f"{mode}: expected the end of the connection, got «{line}»"
        elif word == "ARRIVED":
            await asyncio.sleep(0.02)
            assert len(server.received) == int(text), f"{mode}: {len(server.received)} messages arrived"
        elif word == "CONTENT":
            assert server.received[-1].content.endswith(octets(text)), f"{mode}: {server.received[-1].content!r}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_dialog(path: Path, tmp_path: Path) -> None:
    """The file's own first remark."""
    dialog = read(path)

    async def all_modes() -> None:
        async with MailServer() as server:
            server.replies.update(dialog.replies)
            if dialog.keywords is not None:
                server.keywords = dialog.keywords
            prepare(tmp_path)
            async with running(settings_for(tmp_path, server, **dialog.settings)) as gateway:
                for mode in ("whole", "bytes", "random 1", "random 2"):
                    server.received.clear()
                    client = await Client.connect(gateway.ports[0])
                    await play(dialog, client, server, mode)
                    await client.close()

    asyncio.run(all_modes())


def test_there_are_dialogs() -> None:
    """The folder is found, wherever pytest was started."""
    assert len(FILES) >= 20
