"""Shapes and sizes that stall line-by-line code: the worker's other sessions go on, its memory stays small."""

import os
import pwd
import shutil
import socket
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import pace
from tests.e2e.letters import CLERK, MAYOR, attached, letter
from tests.e2e.postfix import open_folder
from tests.e2e.running import CityGateway, Nursery, children_of, running_city, until
from tests.ports import free_ports

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(shutil.which("smtp-sink", path="/usr/sbin:/usr/bin") is None, reason="no smtp-sink"),
]
WORST = 1.5
"""Seconds that a small message may take at worst beside a hostile one, on a busy machine."""
LARGE, IN_FLIGHT = 45_000_000, 20
FINISHED = IN_FLIGHT if os.environ.get("CIVICGATE_CAMPAIGN") else 3
LIMIT = 200_000_000


@dataclass(frozen=True)
class Alone:
    """A gateway with one worker, so that every session shares its loop, and the sink's folder of what arrived."""

    gateway: CityGateway
    dumps: Path

    @property
    def worker(self) -> int:
        """Its only worker."""
        (pid,) = until(self.gateway.workers, 10)
        return pid

    def arrived(self, octets: bytes) -> bool:
        """Whether a message has arrived that ends with these octets."""
        return any(path.read_bytes().replace(b"\r\n", b"\n").rstrip().endswith(octets) for path in self.dumps.iterdir())


@pytest.fixture(scope="module")
def shared() -> Iterator[Path]:
    """A folder into which smtp-sink can write, which gives up root."""
    with open_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, nursery: Nursery, clamd: Path, shared: Path) -> Iterator[Alone]:
    """One worker with all default rules and clamd, in front of Postfix's smtp-sink."""
    folder = tmp_path_factory.mktemp("alone")
    dumps = shared / "dumps"
    dumps.mkdir()
    port = free_ports(1)[0]
    command = ["/usr/sbin/smtp-sink", "-d", f"{dumps}/%M."]
    if os.geteuid() == 0:
        command += ["-u", "nobody"]
        os.chown(dumps, pwd.getpwnam("nobody").pw_uid, -1)
    sink = subprocess.Popen([*command, f"127.0.0.1:{port}", "200"])
    try:
        with running_city(folder / "g", nursery, port, clamd={"address": f"unix:{clamd}"}, workers=1) as gateway:
            yield Alone(gateway, dumps)
    finally:
        sink.kill()
        sink.wait()


class Raw:
    """A blocking session that sends octets as they are."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), 120)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._replies = self._socket.makefile("rb")
        self.reply()
        self.say(b"EHLO raw.example\r\n")

    def say(self, octets: bytes) -> bytes:
        """Send, read one reply."""
        self._socket.sendall(octets)
        return self.reply()

    def reply(self) -> bytes:
        """The last line of the next reply."""
        while (line := self._replies.readline())[3:4] == b"-":
            pass
        return line

    def send(self, content: bytes, *recipients: str) -> bytes:
        """A transaction; the reply to the end of data."""
        self.begin(content, *recipients)
        return self.finish()

    def finish(self) -> bytes:
        """The final dot and its reply."""
        return self.say(b".\r\n")

    def begin(self, content: bytes, *recipients: str) -> None:
        """A transaction up to, but not with, the final dot."""
        count = len(recipients)
        rcpts = b"".join(b"RCPT TO:<%b>\r\n" % address.encode() for address in recipients)
        sender = threading.Thread(target=self._socket.sendall, args=(b"MAIL FROM:<%b>\r\n" % CLERK.encode() + rcpts,))
        sender.start()
        answers = [self.reply() for _ in range(count + 1)]
        sender.join()
        assert all(answer.startswith(b"250") for answer in answers), [a for a in answers if a[:3] != b"250"][:3]
        assert self.say(b"DATA\r\n").startswith(b"354")
        self._socket.sendall(content)

    def close(self) -> None:
        """Hang up."""
        self._replies.close()
        self._socket.close()


def beside(port: int, work: Callable[[], bytes]) -> tuple[bytes, list[float]]:
    """Do ``work`` in a thread; its answer, and the seconds of each small message of a second session meanwhile."""
    answers: list[bytes] = []
    thread = threading.Thread(target=lambda: answers.append(work()))
    small, seconds = Raw(port), list[float]()
    content = letter("small")
    thread.start()
    while thread.is_alive() or not seconds:
        started = time.perf_counter()
        assert small.send(content, MAYOR).startswith(b"250")
        seconds.append(time.perf_counter() - started)
        time.sleep(0.005)
    small.close()
    assert answers, "the large one got no answer"
    return answers[0], seconds


def _empty_lines() -> tuple[bytes, tuple[str, ...]]:
    return letter("empty") + b"\r\n" * 2_000_000 + b"end of it\r\n", (MAYOR,)


def _one_line() -> tuple[bytes, tuple[str, ...]]:
    return letter("long") + b"x" * 20_000_000 + b"end of it\r\n", (MAYOR,)


def _headers() -> tuple[bytes, tuple[str, ...]]:
    return b"X-A: b\r\n" * 100_000 + letter("headers") + b"end of it\r\n", (MAYOR,)


def _recipients() -> tuple[bytes, tuple[str, ...]]:
    return letter("many") + b"end of it\r\n", tuple(f"p{number}@city.example" for number in range(10_000))


@pytest.mark.parametrize("shape", [_empty_lines, _one_line, _headers, _recipients], ids=lambda s: str(s.__name__)[1:])
def test_hostile_shapes_stall_nobody(alone: Alone, shape: Callable[[], tuple[bytes, tuple[str, ...]]]) -> None:
    """While the shape passes with all rules on, a second session's messages wait no more than WORST."""
    content, recipients = shape()
    session = Raw(alone.gateway.port)
    started = time.perf_counter()
    answer, seconds = beside(alone.gateway.port, lambda: session.send(content, *recipients))
    took = time.perf_counter() - started
    session.close()
    print(
        f"\n{shape.__name__[1:]}: {took:.2f} s, {answer[:40]!r}; beside it {len(seconds)} small messages, "
        f"median {statistics.median(seconds) * 1000:.1f} ms, worst {max(seconds) * 1000:.0f} ms"
    )
    assert answer.startswith(b"250"), answer
    assert max(seconds) < pace.seconds(WORST)


def test_a_line_of_twenty_megabytes_arrives_whole(alone: Alone) -> None:
    """The longest line that anybody sent is not broken: it is what lies at the next hop."""
    content, recipients = _one_line()
    session = Raw(alone.gateway.port)
    assert session.send(content, *recipients).startswith(b"250")
    session.close()
    tail = content[-20_000_200:].replace(b"\r\n", b"\n").rstrip()
    until(lambda: alone.arrived(tail), 10, "it is not there, or broken")


@pytest.mark.slow
def test_twenty_large_messages_in_flight_take_little_memory(alone: Alone) -> None:
    """One worker that holds twenty messages of 45 MB stays under 200 MB, its inspection process counted apart.

    All twenty are received up to the final dot; then as many at once as ``FINISHED`` says are inspected, scanned and
    relayed (in a campaign all of them), and the others hang up.
    """
    content = attached("heavy", LARGE)
    sessions = [Raw(alone.gateway.port) for _ in range(IN_FLIGHT)]
    try:
        _heavy(alone, content, sessions)
    finally:
        for one in sessions:
            one.close()
    until(lambda: not list((alone.gateway.folder / "spool").iterdir()), 10, "the spool is not swept")


def _heavy(alone: Alone, content: bytes, sessions: list[Raw]) -> None:
    worker = alone.worker
    Path(f"/proc/{worker}/clear_refs").write_text("5")  # VmHWM counts from here
    before = _memory(worker, "VmHWM")
    started = time.perf_counter()
    anonymous = _all([lambda one=one: one.begin(content, MAYOR) for one in sessions], worker)  # type: ignore[misc]
    spool = alone.gateway.folder / "spool"

    def spooled() -> list[int]:
        return [path.stat().st_size for path in spool.iterdir()]

    until(lambda: len(spooled()) == IN_FLIGHT and min(spooled()) > len(content) - 1000, 20, "not all is in the spool")
    answers: list[bytes] = []
    ends = [lambda one=one: answers.append(one.finish()) for one in sessions[:FINISHED]]
    anonymous = max(anonymous, _all(ends, worker))
    took = time.perf_counter() - started
    peak = _memory(worker, "VmHWM")
    inspection = [round(_memory(pid, "VmHWM") / 1e6) for pid in children_of(worker)]
    print(
        f"\n{IN_FLIGHT} messages of {len(content) / 1e6:.1f} MB, {FINISHED} finished, in {took:.1f} s: VmHWM "
        f"{peak / 1e6:.0f} MB (before {before / 1e6:.0f}), RssAnon {anonymous / 1e6:.0f}; inspection {inspection}"
    )
    assert len(answers) == FINISHED
    assert all(answer.startswith(b"250") for answer in answers), answers
    assert peak < LIMIT


def _all(works: Sequence[Callable[[], object]], worker: int) -> int:
    """Do all of it at the same time; the worker's highest anonymous memory meanwhile."""
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    highest = 0
    while any(thread.is_alive() for thread in threads):
        highest = max(highest, _memory(worker, "RssAnon"))
        time.sleep(0.05)
    return highest


def _memory(pid: int, name: str) -> int:
    """One value of /proc/PID/status, in octets."""
    for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return 0
