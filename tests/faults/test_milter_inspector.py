"""kill -9 of what reads and encrypts for a worker, while a mail server waits for the answer to a large message.

Inspection processes (which also plan the changes to a large message) and openssl are killed at random moments between
the end of a message and the answer. With CIVICGATE_CAMPAIGN set it is three hundred kills instead of fifteen.
"""

import asyncio
import os
import random
import shutil
import signal
import struct
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.wire.milter import Step
from tests import pace
from tests.e2e.letters import CLERK, CONFIDENTIAL, MAYOR, PARTNER, SSN, STRANGER, attached, certificate
from tests.e2e.running import RULES, Nursery, children_of, running_city, until
from tests.ports import free_ports
from tests.unit.front.asking import Asking

pytestmark = [pytest.mark.slow, pytest.mark.real]

KILLS = 300 if os.environ.get("CIVICGATE_CAMPAIGN") else 15
OURS = {
    "banner": """\
id: banner
title: Mail from outside carries a word of caution
source: mil/caution
direction: inbound
then: {banner: {id: caution, lines: [CAUTION, It comes from outside.]}}
cases:
  - it: marks
    message: {from: far@example.net, to: mayor@city.example, text: x}
    expect: {transforms: [banner]}
  - it: leaves colleagues alone
    message: {from: clerk@city.example, to: mayor@city.example, text: x}
    expect: {transforms: []}
""",
    "encrypt": """\
id: encrypt
title: Numbers leave encrypted
source: mil/encrypt-outside
direction: outbound
when: {content: {types: [us-ssn], confidence: high}}
then: {encrypt: {methods: [smime]}}
cases:
  - it: encrypts
    message: {from: clerk@city.example, to: far@example.net, text: "Social Security number 536-90-4399"}
    expect: {transforms: [encrypt]}
  - it: leaves other words alone
    message: {from: clerk@city.example, to: far@example.net, text: x}
    expect: {transforms: []}
""",
}


@dataclass
class Kind:
    """One message that is asked about again and again."""

    sender: str
    recipient: str
    peer: bytes
    message: bytes
    seen: Callable[[bytes], bytes]
    """What is compared: the message as it leaves, or what its recipient reads in it."""
    right: bytes = b""
    lasts: float = 60.0
    """Seconds from the message's end to the answer when nobody is killed."""

    def fields(self) -> list[tuple[str, str]]:
        """Name and value of each field."""
        head = self.message.partition(b"\r\n\r\n")[0].decode()
        return [(name, value.strip()) for name, _, value in (row.partition(":") for row in head.split("\r\n"))]


@pytest.fixture
def kinds(tmp_path: Path) -> list[Kind]:
    """1 and 3 MB (two queues of inspection processes), inbound with a banner and outbound encrypted."""
    folder = tmp_path / "g" / "certificates"
    folder.mkdir(parents=True)
    owner = certificate(folder, tmp_path, PARTNER)
    out = []
    for octets in (1_000_000, 3_000_000):
        plain = attached("large", octets, STRANGER, MAYOR)
        out.append(Kind(STRANGER, MAYOR, b"203.0.113.9", plain, bytes))
        secret = attached("large", octets, CLERK, PARTNER).replace(b"See the plans.", CONFIDENTIAL.encode())
        out.append(Kind(CLERK, PARTNER, b"127.0.0.1", secret, owner.open))
    return out


def test_a_killed_process_never_lets_a_message_out_half_or_in_clear(
    tmp_path: Path, nursery: Nursery, kinds: list[Kind]
) -> None:
    """Each answer is the whole right message or «try again», and the next message finds a new process."""
    (port,) = free_ports(1)
    rules = tmp_path / "rules"
    (rules / "types").mkdir(parents=True)
    shutil.copy(RULES / "types" / "us-ssn.yaml", rules / "types")
    for name, text in OURS.items():
        (rules / f"{name}.yaml").write_text(text, "utf-8")
    milter = {"listeners": [{"name": "beside", "address": f"127.0.0.1:{port}"}]}
    with running_city(tmp_path / "g", nursery, 1, rules, workers=1, milter=milter) as gateway:
        (worker,) = until(gateway.workers, 20, "no worker")
        asyncio.run(_campaign(worker, port, kinds))
        assert gateway.workers() == [worker], "the worker itself has ended"
        assert not list((tmp_path / "g" / "spool").iterdir())


async def _campaign(worker: int, port: int, kinds: Sequence[Kind]) -> None:
    """The kills, one message each, and one undisturbed message after each. Raises AssertionError."""
    for kind in (*kinds, *kinds, *kinds):  # the first time processes are started
        verdict, left, lasted = await _ask(port, kind)
        kind.lasts = min(kind.lasts, lasted)
        assert verdict == "accept", verdict
        kind.right = kind.seen(left)
        body = kind.message.partition(b"\r\n\r\n")[2]
        assert kind.right.endswith(body if kind.sender == CLERK else body[1000:])
        assert (b"CAUTION" if kind.sender == STRANGER else SSN.encode()) in kind.right
    chance = random.Random(17)
    said, killed = Counter[str](), 0
    for number in range(KILLS):
        phase = kinds[:2] if number < KILLS // 2 else kinds[2:]
        kind = phase[number % 2]
        killing = _Killing(worker, chance.uniform(0, 1.1 * kind.lasts))
        verdict, left, _ = await _ask(port, kind, killing.begin)
        killed += await killing.done()
        said[verdict] += 1
        _examine(kind, verdict, left)
        verdict, left, _ = await _ask(port, chance.choice(phase))
        assert verdict == "accept", f"after kill {number}: {verdict}"
    print(
        f"\n{KILLS} kills of {killed} processes: {dict(said)}; undisturbed {[round(kind.lasts, 3) for kind in kinds]} s"
    )
    assert said["tempfail"], "no kill came in time to show anything"
    assert set(said) <= {"accept", "tempfail"}


def _examine(kind: Kind, verdict: str, left: bytes) -> None:
    if verdict == "accept":
        assert SSN.encode() not in left
        assert kind.seen(left) == kind.right


class _Killing:
    """Ends everything that works for the worker, so many seconds after :meth:`begin`."""

    def __init__(self, worker: int, seconds: float) -> None:
        self._worker, self._seconds = worker, seconds
        self._task: asyncio.Task[int] | None = None

    def begin(self) -> None:
        """The clock runs from here."""
        self._task = asyncio.create_task(self._kill())

    async def done(self) -> int:
        """How many were killed, once they are dead."""
        assert self._task is not None
        return await self._task

    async def _kill(self) -> int:
        await asyncio.sleep(self._seconds)
        pids = [pid for pid in children_of(self._worker) if _lives(pid)]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await pace.until(lambda: not any(map(_lives, pids)))
        return len(pids)


def _lives(pid: int) -> bool:
    """Whether it still runs: one that is dead, but not waited for yet, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


async def _ask(port: int, kind: Kind, begun: Callable[[], object] = lambda: None) -> tuple[str, bytes, float]:
    """What the gateway says, the message as the server would send it on, and how long the answer took."""
    one = await Asking.connect(port)
    one.say(Step.CONNECT, b"far.example\x004\x30\x39" + kind.peer + b"\0")
    await one.envelope(kind.sender, kind.recipient)
    fields = kind.fields()
    one.header(*fields)
    body = kind.message.partition(b"\r\n\r\n")[2]
    for at in range(0, len(body), 65_535):
        one.say(Step.BODY, body[at : at + 65_535])
        await one.writer.drain()
    begun()
    started = time.perf_counter()
    answers = await one.end(seconds=60)
    lasted = time.perf_counter() - started
    await one.close()
    code, data = answers.pop()
    if code in (b"y", b"t"):
        assert code == b"t" or data.startswith(b"451 "), data
        return "tempfail", b"", lasted
    return {b"a": "accept"}.get(code, repr(code)), _left(fields, body, answers), lasted


def _left(fields: Sequence[tuple[str, str]], body: bytes, answers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """The message after the edits, as Postfix makes them: its own trace field, which no filter sees, is the first."""
    rows = [(b"Received", b" here"), *((name.encode(), b" " + value.encode()) for name, value in fields)]
    pieces: list[bytes] = []
    for code, data in answers:
        if code == b"b":
            pieces.append(data)
            continue
        assert code in b"imh", (code, data)
        (number,) = struct.unpack("!I", data[:4]) if code != b"h" else (0,)
        name, value, _ = data[4 if code != b"h" else 0 :].split(b"\0")
        if code == b"h":
            rows.append((name, value))
        elif code == b"i":
            rows.insert(number, (name, value))
        else:
            place = [n for n, row in enumerate(rows) if row[0].lower() == name.lower()][number - 1]
            rows[place : place + 1] = [(name, value)] if value else []
    return b"".join(name + b":" + value + b"\r\n" for name, value in rows) + b"\r\n" + (b"".join(pieces) or body)
