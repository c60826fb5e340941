"""A worker's memory does not grow with the messages that a mail server asks about: 2 KB, and 45 MB several at once."""

import asyncio
import time
from pathlib import Path

import pytest

from gateway.wire.milter import Step
from tests.e2e.letters import MAYOR, attached, letter, mark
from tests.e2e.running import RULES, Nursery, children_of, running_city, until
from tests.e2e.test_controls import switched
from tests.ports import free_ports
from tests.unit.front.asking import Asking

pytestmark = [pytest.mark.slow, pytest.mark.real]

OCTETS = 45_000_000
AT_ONCE = 2
MARGIN = 30_000_000
"""Octets of anonymous memory by which a worker may grow: less than one such message."""
STRANGER = "stranger@elsewhere.example"


def test_memory_is_flat_with_size(tmp_path: Path, nursery: Nursery, clamd: Path) -> None:
    """All rules, clamd, two messages of 45 MB at once, each of which gets a banner, and so a new body of 45 MB."""
    (port,) = free_ports(1)
    with running_city(
        tmp_path / "g",
        nursery,
        1,
        switched(RULES, tmp_path / "rules", **{"caution-banner": "enforce"}),
        workers=1,
        clamd={"address": f"unix:{clamd}"},
        milter={"listeners": [{"name": "beside", "address": f"127.0.0.1:{port}"}]},
    ) as gateway:
        (worker,) = until(gateway.workers, 20, "no worker")
        name = mark("small")
        small = asyncio.run(_peak(worker, port, [letter(name, "Words.\n" * 250, STRANGER)] * 20))
        large = asyncio.run(_peak(worker, port, [attached(mark("large"), OCTETS, STRANGER)] * AT_ONCE))
        inspecting = [round(_memory(pid, "VmHWM") / 1e6) for pid in children_of(worker)]
        print(f"\n20 of 2 KB: {small}\n{AT_ONCE} of {OCTETS / 1e6:.0f} MB at once: {large}; inspection {inspecting}")
        assert large.anonymous - small.anonymous < MARGIN
        assert not list((tmp_path / "g" / "spool").iterdir())


class Peak:
    """The highest that a worker took, in octets."""

    def __init__(self, worker: int) -> None:
        self._worker = worker
        self._begun = time.perf_counter()
        self.anonymous = self.resident = 0
        self.seconds = 0.0
        Path(f"/proc/{worker}/clear_refs").write_text("5", "ascii")  # VmHWM counts from here

    def __repr__(self) -> str:
        return f"RssAnon {self.anonymous / 1e6:.1f} MB, VmHWM {self.resident / 1e6:.0f} MB, {self.seconds:.1f} s"

    def look(self) -> None:
        """Once more."""
        self.seconds = time.perf_counter() - self._begun
        self.anonymous = max(self.anonymous, _memory(self._worker, "RssAnon"))
        self.resident = max(self.resident, _memory(self._worker, "VmHWM"))


async def _peak(worker: int, port: int, messages: list[bytes]) -> Peak:
    """Of the worker while these are asked about at once."""
    peak = Peak(worker)
    asked = asyncio.gather(*(_ask(port, message) for message in messages))
    while not asked.done():
        peak.look()
        await asyncio.sleep(0.02)
    for message, new in zip(messages, asked.result(), strict=True):
        assert len(message) - 1000 < new < len(message) + 5000
    return peak


async def _ask(port: int, message: bytes) -> int:
    """Octets of the new body."""
    one = await Asking.connect(port)
    one.say(Step.CONNECT, b"far.example\x004\x30\x39203.0.113.9\0")
    await one.envelope(STRANGER, MAYOR)
    head, _, body = message.partition(b"\r\n\r\n")
    rows = [row.partition(":") for row in head.decode().split("\r\n")]
    one.header(*((name, value.strip()) for name, _, value in rows))
    for at in range(0, len(body), 65_535):
        one.say(Step.BODY, body[at : at + 65_535])
        await one.writer.drain()
    answers = await one.end(seconds=120)
    await one.close()
    assert answers[-1] == (b"a", b""), answers[-1]
    return sum(len(data) for code, data in answers if code == b"b")


def _memory(pid: int, field: str) -> int:
    rows = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
    return next(int(row.split()[1]) for row in rows if row.startswith(field)) * 1024
