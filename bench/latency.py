"""How long a small message takes while large ones pass: one every 20 ms, whether or not the last has come back.

A sender that waited for its last message would hide just the stalls that are looked for. Time is taken from the
start of the connection to the reply to the final dot.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from bench.load import NotMeasuredError, Source
from bench.messages import RECIPIENT, SENDER

INTERVAL = 0.02


@dataclass(slots=True)
class Latencies:
    """Seconds of each small message; ``large`` counts the large ones that passed meanwhile."""

    seconds: list[float] = field(default_factory=list)
    large: int = 0

    def add(self, other: "Latencies") -> None:
        """Take another repetition's in."""
        self.seconds += other.seconds
        self.large += other.large

    def percentile(self, percent: float) -> float:
        """Seconds that so many percent of the messages did not exceed; 0 without messages."""
        return percentile(self.seconds, percent)


def percentile(values: Sequence[float], percent: float) -> float:
    """Nearest rank: the smallest value that at least so many percent do not exceed; 0 of nothing."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100).__int__() - 1)]


def measure(port: int, small: bytes, large: Source, seconds: float) -> Latencies:
    """Small messages for ``seconds`` while large ones follow each other on the same port. Raises NotMeasuredError."""
    return uvloop.run(_measure(port, small, large, seconds))


def steady(port: int, small: bytes, seconds: float) -> Latencies:
    """The same with no large message."""
    return uvloop.run(_measure(port, small, None, seconds))


async def _measure(port: int, small: bytes, large: Source | None, seconds: float) -> Latencies:
    payload = small.replace(b"\n", b"\r\n") + b".\r\n"
    result = Latencies()
    over = asyncio.Event()
    flow = asyncio.create_task(_large(port, large, seconds, result, over))
    waiting = set[asyncio.Task[float]]()
    loop = asyncio.get_running_loop()
    next_at = loop.time() + 0.3  # the large one is on its way by then
    try:
        while not over.is_set():
            await asyncio.sleep(max(0.0, next_at - loop.time()))
            next_at += INTERVAL
            waiting.add(asyncio.create_task(_one(port, payload)))
        async with asyncio.timeout(60):
            result.seconds = list(await asyncio.gather(*waiting))
            await flow
    except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
        raise NotMeasuredError(f"a small message failed: {str(error) or type(error).__name__}") from error
    finally:
        flow.cancel()
        await asyncio.gather(flow, return_exceptions=True)
    return result


async def _large(port: int, source: Source | None, seconds: float, result: Latencies, over: asyncio.Event) -> None:
    """One large message after another until the time is over; the last one is waited for."""
    end = time.monotonic() + seconds
    try:
        if source is None:
            await asyncio.sleep(seconds)
            return
        while time.monotonic() < end:
            process = await asyncio.create_subprocess_exec(
                *source.command(port, 1), stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL
            )
            try:
                async with asyncio.timeout(60):
                    if await process.wait():
                        raise NotMeasuredError("a large message was refused")
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
            result.large += 1
    finally:
        over.set()


async def _one(port: int, payload: bytes) -> float:
    started = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        await _reply(reader)
        for line in ("EHLO bench.city.example", f"MAIL FROM:<{SENDER}>", f"RCPT TO:<{RECIPIENT}>", "DATA"):
            writer.write(f"{line}\r\n".encode("ascii"))
            await _reply(reader)
        writer.write(payload)
        await _reply(reader)
        taken = time.perf_counter() - started
        writer.write(b"QUIT\r\n")
        await _reply(reader)
    finally:
        writer.close()
    return taken


async def _reply(reader: asyncio.StreamReader) -> None:
    """A whole reply. Raises OSError when it is none of success."""
    while True:
        line = await reader.readuntil(b"\r\n")
        if line[3:4] != b"-":
            break
    if line[:1] not in b"23":
        raise OSError(line.decode("ascii", "replace").strip())


def large_source(path: Path) -> Source:
    """One session; nobody asks how fast."""
    return Source(path, 1, 0.0)
