"""Where messages are read: the same answers here and in a process, and every bad end of a process is a failure."""

import asyncio
import base64
import importlib
import os
import random
import resource
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import pytest
import pytest_asyncio

from gateway.checks import inspector as module
from gateway.checks.child import pickled
from gateway.checks.inspector import LARGE, Inspected, Inspector
from gateway.checks.passive import PASSIVE, inspect
from gateway.checks.processes import _unpickle
from gateway.checks.scanner import Scanner
from gateway.errors import ConfigErrors, ControlError, TransformError
from gateway.mime.edits import Edit
from gateway.model.envelope import Envelope
from gateway.model.finding import Check, Confidence, Finding, Questions
from gateway.policy.types import InformationType, Pattern
from gateway.settings import InspectionSettings, SpoolSettings
from gateway.spool import Spool, SpooledMessage
from tests import pace

MEGABYTE = 1_000_000
MIDDLING = b"Subject: x\r\n\r\n" + b"some words and no number at all\r\n" * 6000


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def bad() -> Iterator[ModuleType]:
    """The hostile functions, importable here and in inspection processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent / "hostile"))
        yield importlib.import_module("hostile_functions")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def inspector(types: tuple[InformationType, ...], bad: ModuleType) -> AsyncIterator[Inspector]:
    """An inspector for all tests: each bad end must leave it able to read the next message."""
    assert bad.__name__ == "hostile_functions"
    one = Inspector(InspectionSettings.model_validate({"timeout": "180 s"}), types)  # tests have their own bounds
    one.start()
    yield one
    await one.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hasty(types: tuple[InformationType, ...], bad: ModuleType) -> AsyncIterator[Inspector]:
    """One with a deadline short enough to wait for, and little memory."""
    assert bad.__name__ == "hostile_functions"
    one = Inspector(InspectionSettings.model_validate({"timeout": "700 ms", "process_memory": "512 MiB"}), types)
    yield one
    await one.close()


def spooled(tmp_path: Path, data: bytes) -> SpooledMessage:
    """The message as the spool keeps it: in memory when small, else in a file."""
    writer = Spool(SpoolSettings(directory=tmp_path, memory=256 * 1024)).new("t1")
    for start in range(0, len(data), 65536):
        writer.write(data[start : start + 65536])
    return writer.close()


def message_of(size: int) -> bytes:
    """A message with text, numbers and an attachment that fills it."""
    filler = base64.encodebytes(random.Random(size).randbytes(size * 3 // 4)).replace(b"\n", b"\r\n")
    return (
        b"Subject: SSN 536-90-4399\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
        b"Content-Type: text/html\r\n\r\n<p>card <b>4111</b> 1111 1111 1111</p>\r\n--b\r\n"
        b"Content-Type: application/pdf; name=a.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + filler
        + b"--b--\r\n"
    )


@pytest.mark.parametrize("size", [2_000, 200_000, 300_000, 3 * MEGABYTE])
async def test_a_process_finds_what_is_found_here(
    inspector: Inspector, envelope: Envelope, everything: Questions, scanner: Scanner, tmp_path: Path, size: int
) -> None:
    """In memory, over a descriptor, from a file, in either queue: the findings are those of a plain call."""
    data = message_of(size)
    message = spooled(tmp_path, data)
    result = await inspector.inspect(message, envelope, everything)
    assert result == Inspected(inspect(data, envelope, everything, scanner, InspectionSettings()), (), PASSIVE)
    assert {f.kind for f in result.items if f.check is Check.CONTENT} == {"us-ssn", "payment-card"}
    message.close()


async def test_nothing_asked_starts_nothing(inspector: Inspector, envelope: Envelope) -> None:
    """Without a passive question even a large message costs nothing."""
    result = await inspector.inspect(SpooledMessage.of(MIDDLING), envelope, Questions(frozenset({Check.VIRUS})))
    assert result == Inspected((), (), frozenset())


@pytest.mark.parametrize(
    ("name", "reason", "detail"),
    [
        ("abort", "crashed", "SIGABRT"),
        ("loop", "timeout", "over 0.7 s"),
        ("hoard", "limit", "memory"),
        ("stumble", "crashed", "ZeroDivisionError"),
        ("answer_evil", "crashed", "has no place in an answer"),
    ],
)
async def test_every_bad_end_is_an_error_and_the_next_message_is_read(
    hasty: Inspector, bad: ModuleType, name: str, reason: str, detail: str
) -> None:
    """Abort, endless loop, memory, mistakes, poisoned answers: a ControlError each, then a fresh process."""
    message = SpooledMessage.of(MIDDLING)
    with pytest.raises(ControlError) as caught:
        await hasty.run(getattr(bad, name), message)
    assert (caught.value.reason, detail in caught.value.detail) == (reason, True), caught.value.detail
    assert await hasty.run(bad.length, message) == len(MIDDLING)


async def test_no_network_and_no_programs(inspector: Inspector, bad: ModuleType) -> None:
    """A library that was taken over can neither call home nor start anything (Linux on x86-64 and ARM)."""
    message = SpooledMessage.of(MIDDLING)
    assert await inspector.run(bad.dial, message) == "PermissionError"
    assert await inspector.run(bad.start_program, message) == "PermissionError"


async def test_a_crash_is_a_failure_of_every_check_asked(
    inspector: Inspector, envelope: Envelope, everything: Questions, bad: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that ends under an inspection: no findings, nothing known, one failure a check; the next one works."""
    message = SpooledMessage.of(MIDDLING)
    with monkeypatch.context() as patch:
        patch.setattr(module, "inspect_as_told", bad.leave_anyhow)
        items, failures, known = await inspector.inspect(message, envelope, everything)
    assert (items, known) == ((), frozenset())
    assert {f.check for f in failures} == PASSIVE
    assert {f.reason for f in failures} == {"crashed"}
    assert (await inspector.inspect(message, envelope, everything)).known == PASSIVE


async def test_a_mistake_on_the_event_loop_is_a_failure_too(
    inspector: Inspector, envelope: Envelope, everything: Questions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception while reading a small message becomes failures, not an exception."""

    def stumble(*_args: object) -> None:
        raise RecursionError("deeper than thought")

    monkeypatch.setattr(module, "inspect", stumble)
    result = await inspector.inspect(SpooledMessage.of(b"Subject: x\r\n\r\ny"), envelope, everything)
    assert {(f.check, f.reason) for f in result.failures} == {(check, "crashed") for check in PASSIVE}


async def test_errors_of_the_package_come_back_as_they_were(inspector: Inspector, bad: ModuleType) -> None:
    """A TransformError raised in a process has its code and detail here; the process goes on."""
    message = SpooledMessage.of(MIDDLING)
    before = await inspector.run(bad.sleep, message, 0.0)
    with pytest.raises(TransformError) as caught:
        await inspector.run(bad.refuse, message, "too-deep")
    assert (caught.value.code, caught.value.detail) == ("too-deep", "cannot be done")
    assert await inspector.run(bad.sleep, message, 0.0) == before
    with pytest.raises(ControlError) as control:
        await inspector.run(bad.refuse_control, message)
    assert (control.value.reason, "too many layers" in control.value.detail) == ("limit", True)


async def test_values_of_the_package_come_back(inspector: Inspector, bad: ModuleType) -> None:
    """``run`` gives the function's value, here for a small message and there for a larger one."""
    assert await inspector.run(bad.edit_of, SpooledMessage.of(MIDDLING), b"x") == Edit(0, len(MIDDLING), b"x")
    small = SpooledMessage.of(b"small")
    assert await inspector.run(bad.sleep, small, 0.0) == os.getpid()


async def test_a_process_limits_itself(inspector: Inspector, bad: ModuleType) -> None:
    """Memory, core dumps, open files, priority and processor time are bounded, and renewed for each request."""
    message = SpooledMessage.of(MIDDLING)
    memory, core, files, niceness, parent = await inspector.run(bad.ends, message)
    assert (memory, core, files, parent) == (1024**3, 0, 64, os.getpid())
    assert niceness >= 10
    assert await inspector.run(bad.ignores_interrupt, message)
    first = await inspector.run(bad.cpu_left, message)
    for _ in range(3):
        assert abs(await inspector.run(bad.cpu_left, message) - first) < 2


async def test_a_cancelled_inspection_does_not_poison_the_next(inspector: Inspector, bad: ModuleType) -> None:
    """When the client goes away in the middle, the process is replaced: no answer reaches the wrong message."""
    message = SpooledMessage.of(MIDDLING)
    first = await inspector.run(bad.sleep, message, 0.0)
    task = asyncio.create_task(inspector.run(bad.sleep, message, 2.0))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await inspector.run(bad.sleep, message, 0.0) != first


async def test_a_large_message_does_not_hold_up_a_middling_one(inspector: Inspector, bad: ModuleType) -> None:
    """While a large one is read, one of the other queue is answered."""
    large = SpooledMessage.of(bytes(LARGE))
    middling = SpooledMessage.of(MIDDLING)
    await asyncio.gather(inspector.run(bad.length, large), inspector.run(bad.length, middling))
    slow = asyncio.create_task(inspector.run(bad.sleep, large, 1.5))
    await asyncio.sleep(0.05)
    assert await inspector.run(bad.length, middling) == len(MIDDLING)
    assert not slow.done()
    await slow


async def test_who_waits_too_long_for_a_process_fails(hasty: Inspector, bad: ModuleType) -> None:
    """The queue has a deadline of its own."""
    message = SpooledMessage.of(MIDDLING)
    tasks = [asyncio.create_task(hasty.run(bad.loop, message)) for _ in range(7)]
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [r.reason for r in results if isinstance(r, ControlError)] == ["timeout"] * 7
    assert any("became free" in str(r) for r in results)


async def test_closing_ends_every_process(bad: ModuleType, types: tuple[InformationType, ...]) -> None:
    """After close no child is left, not even as a zombie."""
    one = Inspector(InspectionSettings(), types)
    pids = [await one.run(bad.sleep, SpooledMessage.of(data), 0.0) for data in (MIDDLING, bytes(LARGE))]
    assert len(set(pids)) == 2
    await one.close()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_a_process_that_was_killed_while_idle_is_replaced(
    inspector: Inspector, bad: ModuleType, envelope: Envelope, everything: Questions
) -> None:
    """The system may kill it any time; the next message does not notice."""
    message = SpooledMessage.of(MIDDLING)
    pid = await inspector.run(bad.sleep, message, 0.0)
    os.kill(pid, signal.SIGKILL)
    await pace.until(lambda: Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] == "Z")
    assert (await inspector.inspect(message, envelope, everything)).known == PASSIVE
    assert await inspector.run(bad.sleep, message, 0.0) != pid


async def test_new_definitions_reach_a_running_process(
    inspector: Inspector, envelope: Envelope, everything: Questions, types: tuple[InformationType, ...]
) -> None:
    """After a reload the process compiles the new definitions; broken ones change nothing."""
    tail = b"badge BDG-123456\r\n"
    message = SpooledMessage.of(MIDDLING + tail)
    assert not (await inspector.inspect(message, envelope, everything)).failures
    badge = InformationType("badge", "Badge", patterns=(Pattern(r"BDG-\d{6}"),))
    with pytest.raises(ConfigErrors):
        inspector.use((*types, InformationType("odd", "Odd", patterns=(Pattern(r"(?<=a)b"),))))
    inspector.use((*types, badge))
    questions = Questions(frozenset({Check.CONTENT}), types=frozenset({"badge", "us-ssn"}))
    inspector.prepare(questions)
    for data in (MIDDLING + tail, b"Subject: x\r\n\r\n" + tail):
        result = await inspector.inspect(SpooledMessage.of(data), envelope, questions)
        assert [(f.kind, f.part) for f in result.items] == [("badge", "1")]
    inspector.use(types)


async def test_a_type_without_definition_is_a_failure(inspector: Inspector, envelope: Envelope) -> None:
    """A question that nobody can answer is unavailable, never «nothing found»."""
    questions = Questions(frozenset({Check.CONTENT}), types=frozenset({"unheard-of"}))
    result = await inspector.inspect(SpooledMessage.of(b"\r\nx"), envelope, questions)
    assert [(f.check, f.reason) for f in result.failures] == [(Check.CONTENT, "unavailable")]


async def test_a_small_message_full_of_numbers_leaves_the_event_loop(
    inspector: Inspector, envelope: Envelope, everything: Questions
) -> None:
    """Many candidates in few octets are checked in a process: all are counted, and the loop is not held."""
    rows = "".join(f"ssn 536-90-{n:04d}\r\n" for n in range(1, 2001)).encode()
    message = SpooledMessage.of(b"Subject: x\r\n\r\n" + rows)
    assert message.size < InspectionSettings().inline
    result = await inspector.inspect(message, envelope, everything)
    assert sum(f.count for f in result.items if f.kind == "us-ssn") == 2000
    assert "candidates-capped" not in {f.kind for f in result.items}


async def test_a_message_of_45_mb_leaves_the_parent_as_it_was(
    inspector: Inspector, envelope: Envelope, everything: Questions, tmp_path: Path
) -> None:
    """The file is mapped and read in the process; the gateway's own memory does not grow with it."""
    path = tmp_path / "large.eml"
    head, tail = message_of(MEGABYTE).split(b"--b--")
    line = b"QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2xtbm9wcXJzdHV2d3h5ejAxMjM0\r\n"
    with path.open("wb") as file:
        file.write(head)
        for _ in range(44):
            file.write(line * (MEGABYTE // len(line)))
        file.write(b"--b--" + tail)
    message = SpooledMessage.of_file(path)
    assert message.size > 44 * MEGABYTE
    await inspector.inspect(SpooledMessage.of(bytes(LARGE)), envelope, everything)
    before = rss()
    result = await inspector.inspect(message, envelope, everything)
    grown = rss() - before
    message.close()
    assert {f.kind for f in result.items if f.check is Check.CONTENT} == {"us-ssn", "payment-card"}
    assert grown < 4 * MEGABYTE


def rss() -> int:
    """Resident octets of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


STALLS: dict[str, Callable[[], bytes]] = {
    "empty lines": lambda: b"Subject: x\r\n\r\n" + b"\r\n" * 2 * MEGABYTE,
    "one long line": lambda: b"Subject: x\r\n\r\n" + b"abcdefg 12 " * (20 * MEGABYTE // 11),
    "100,000 fields": lambda: b"X-Tag: a\r\n" * 100_000 + b"\r\nx",
    "one long field": lambda: b"Subject: " + b"=?utf-8?q?a?= " * 50_000 + b"\r\n\r\nx",
    "digits": lambda: b"Subject: card\r\n\r\ncard " + b"1 " * 2 * MEGABYTE,
    "open tags": lambda: b"Content-Type: text/html\r\n\r\n" + b"<p <!-- <script " * 100_000,
    "quotes": lambda: b"Subject: x\r\n\r\n" + b"> > on 1 x wrote:\r\n" * 100_000,
    "parts": lambda: b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * 100_000,
    "combining": lambda: b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + "a\u0301\u0323".encode() * 400_000,
}


@pytest.mark.parametrize("shape", STALLS)
async def test_shapes_that_stall_others_finish(
    inspector: Inspector, envelope: Envelope, everything: Questions, tmp_path: Path, shape: str
) -> None:
    """Known bad shapes are read within seconds, and the event loop goes on meanwhile."""
    message = spooled(tmp_path, STALLS[shape]())
    begun = time.perf_counter()
    task = asyncio.create_task(inspector.inspect(message, envelope, everything))
    longest = 0.0
    while not task.done():
        before = time.perf_counter()
        await asyncio.sleep(0.01)
        longest = max(longest, time.perf_counter() - before)
    result = await task
    assert not result.failures
    assert time.perf_counter() - begun < pace.seconds(15.0)
    assert longest < pace.seconds(1.0)
    message.close()


@pytest.mark.parametrize(
    "data",
    [
        b"Content-Type: text/html\r\n\r\n" + b"<p>a" * 5000,
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * 100,
    ],
    ids=["tags", "parts"],
)
async def test_a_small_message_of_many_pieces_leaves_the_event_loop(
    inspector: Inspector, envelope: Envelope, everything: Questions, scanner: Scanner, data: bytes
) -> None:
    """What costs by the piece is read in a process, however few octets it has, and with the same findings."""
    ended: list[bool] = []

    def watched(*arguments: Any) -> tuple[Finding, ...]:
        ended.append(False)
        found = inspect(*arguments)
        ended[-1] = True
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "inspect", watched)
        result = await inspector.inspect(SpooledMessage.of(data), envelope, everything)
    assert not any(ended)
    assert result.items == inspect(data, envelope, everything, scanner, InspectionSettings())


async def test_answers_of_early_3_11_hold_no_getattr() -> None:
    """Debian 12's Python reduces an enumeration's member to a call of getattr; no answer may hold one."""
    finding = Finding(Check.CONTENT, "us-ssn", confidence=Confidence.HIGH)
    with patch.object(Enum, "__reduce_ex__", lambda self, _: (getattr, (type(self), self.name))):
        answer = pickled(finding)
    assert _unpickle(answer) == finding
