"""The parent with real forked processes: restart with backoff, drain, reload, ports. All bounded in time."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.errors import ConfigError
from gateway.settings import Endpoint
from gateway.workers import Child, reserve
from tests import pace

_PARENT = """
import os, signal, sys, time
from pathlib import Path
from gateway.errors import ConfigError
from gateway.settings import Settings
from gateway.workers import OBSERVER, Parent

folder = Path(sys.argv[1])
behaviour = sys.argv[2]

class Log:
    def _say(self, level, event, **fields):
        with open(folder / "log", "a") as file:
            file.write(f"{level} {event} {fields}\\n")
    def error(self, event, **fields): self._say("error", event, **fields)
    def info(self, event, **fields): self._say("info", event, **fields)

def note(name, text):
    with open(folder / name, "a") as file:
        file.write(f"{text}\\n")

def work(number):
    note("started", f"{number} {os.getpid()} {time.monotonic()}")
    if behaviour == "crash" and number == 0:
        raise RuntimeError("worker zero cannot")
    if behaviour == "exit" and number == 0:
        return 3
    if behaviour == "slow":
        time.sleep(30)
    told = []
    signal.signal(signal.SIGHUP, lambda *_: note("hup", number))
    signal.signal(signal.SIGTERM, lambda *_: told.append(1))
    if behaviour == "stubborn" and number == 0:
        note("ready", number)
        while True:
            time.sleep(1)
    note("ready", number)
    while not told:
        time.sleep(0.02)
    time.sleep(0.3)
    note("drained", number)
    return 0

def check():
    if (folder / "odd").exists():
        raise IndexError("tuple index out of range")
    if (folder / "broken").exists():
        raise ConfigError("unknown key «x»", "gateway.yaml", 3, 1)

settings = Settings.model_validate({
    "workers": 2, "smtp": {"drain_timeout": "100 ms"}, "console": {"enabled": behaviour == "console"}
})
forgotten, refused = (lambda pid: note("forgotten", pid)), (lambda: note("refused", "once"))
parent = Parent(settings, work, check, Log(), forgotten, refused)
sys.exit(parent.run())
"""


class Running:
    """A parent process and what it and its workers wrote."""

    def __init__(self, folder: Path, behaviour: str) -> None:
        self.folder = folder
        self.process = subprocess.Popen([sys.executable, "-c", _PARENT, str(folder), behaviour], env=_ENVIRONMENT)

    def lines(self, name: str) -> list[str]:
        """The lines of one file, none when it is not there."""
        path = self.folder / name
        return path.read_text("utf-8").splitlines() if path.exists() else []

    def until(self, condition: Callable[[], object], seconds: float = 15.0) -> None:
        """Wait for it."""
        deadline = time.monotonic() + pace.seconds(seconds)
        while not condition():
            assert time.monotonic() < deadline, (self.lines("log"), self.lines("started"))
            time.sleep(0.02)

    def end(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(pace.seconds(20))

    def pids(self) -> list[int]:
        """Of every worker that was ever started."""
        return [int(line.split()[1]) for line in self.lines("started")]


_ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path.cwd())}
_ENVIRONMENT.pop("PROMETHEUS_MULTIPROC_DIR", None)


@pytest.fixture
def start(tmp_path: Path) -> object:
    """Start a parent; whatever is left at the end is killed by its id."""
    made: list[Running] = []

    def run(behaviour: str = "well") -> Running:
        made.append(Running(tmp_path, behaviour))
        return made[-1]

    yield run
    for one in made:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait(5)
            for pid in one.pids():
                _kill(pid)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_sigterm_drains_every_worker_and_ends_with_zero(start: Callable[..., Running]) -> None:
    """The observer and all workers are told, waited for, and gone; the parent returns 0."""
    one = start()
    one.until(lambda: len(one.lines("ready")) == 3)
    assert sorted(line.split()[0] for line in one.lines("started")) == ["-1", "0", "1"]
    assert one.end() == 0
    assert sorted(one.lines("drained")) == ["-1", "0", "1"]
    assert sorted(map(int, one.lines("forgotten"))) == sorted(one.pids())
    assert not any(_alive(pid) for pid in one.pids())


def test_a_worker_that_does_not_drain_is_ended(start: Callable[..., Running]) -> None:
    """Past the drain timeout and its grace a stubborn worker is killed; the others have drained."""
    one = start("stubborn")
    one.until(lambda: len(one.lines("ready")) == 3)
    began = time.monotonic()
    assert one.end() == 0
    assert 4.5 < time.monotonic() - began < pace.seconds(15)
    assert sorted(one.lines("drained")) == ["-1", "1"]
    assert not any(_alive(pid) for pid in one.pids())


def test_a_killed_worker_is_started_again(start: Callable[..., Running]) -> None:
    """One is killed, one comes; the others are not touched."""
    one = start()
    one.until(lambda: len(one.lines("ready")) == 3)
    victim = next(int(line.split()[1]) for line in one.lines("started") if line.startswith("1 "))
    os.kill(victim, signal.SIGKILL)
    one.until(lambda: len(one.lines("ready")) == 4)
    assert [line.split()[0] for line in one.lines("started")][3:] == ["1"]
    (said,) = one.lines("log")
    assert said.startswith("error worker ended {'worker': 1")
    assert f"'pid': {victim}, 'status': -9" in said
    assert one.lines("forgotten") == [str(victim)]
    assert one.end() == 0


def test_the_console_is_a_process_of_its_own_that_is_started_again(start: Callable[..., Running]) -> None:
    """It is one more child: a kill of it leaves the others, a new one comes, SIGTERM drains it with them."""
    one = start("console")
    one.until(lambda: len(one.lines("ready")) == 4)
    victim = next(int(line.split()[1]) for line in one.lines("started") if line.startswith("-2 "))
    os.kill(victim, signal.SIGKILL)
    one.until(lambda: len(one.lines("ready")) == 5)
    assert [line.split()[0] for line in one.lines("started")][4:] == ["-2"]
    assert one.end() == 0
    assert sorted(one.lines("drained")) == ["-1", "-2", "0", "1"]


def test_a_worker_that_keeps_dying_is_started_ever_more_rarely(start: Callable[..., Running]) -> None:
    """1 s, then 2 s between starts; the crash and its reason stand in the log; the healthy worker lives on."""
    one = start("crash")
    one.until(lambda: len([line for line in one.lines("started") if line.startswith("0 ")]) == 3)
    times = [float(line.split()[2]) for line in one.lines("started") if line.startswith("0 ")]
    assert times[1] - times[0] > 0.9
    assert times[2] - times[1] > 1.9
    ended = [line for line in one.lines("log") if "worker ended" in line]
    assert "'status': 70, 'restart_in_s': 1.0" in ended[0]
    assert "'status': 70, 'restart_in_s': 2.0" in ended[1]
    assert any("worker crashed" in line and "worker zero cannot" in line for line in one.lines("log"))
    assert len([line for line in one.lines("started") if line.startswith("1 ")]) == 1
    assert one.end() == 0


def test_signals_to_a_worker_that_is_still_starting(start: Callable[..., Running]) -> None:
    """Regression: SIGHUP killed a worker that had no handler yet. It is ignored then; SIGTERM ends it at once."""
    one = start("slow")
    one.until(lambda: len(one.lines("started")) == 3)
    for pid in one.pids():
        os.kill(pid, signal.SIGHUP)
    time.sleep(0.5)
    assert one.lines("log") == []
    began = time.monotonic()
    assert one.end() == 0
    assert time.monotonic() - began < 4, "nobody had to be killed after the drain timeout"
    assert one.lines("ready") == []


def test_sighup_reaches_the_workers_only_when_the_settings_can_be_read(start: Callable[..., Running]) -> None:
    """A broken file is told with its place and is not passed on; a good one reaches all."""
    one = start()
    one.until(lambda: len(one.lines("ready")) == 3)
    (one.folder / "broken").touch()
    one.process.send_signal(signal.SIGHUP)
    one.until(lambda: one.lines("log"))
    assert one.lines("log")[0].startswith("error reload refused, the old settings and rules stay")
    assert "gateway.yaml:3:1: unknown key «x»" in one.lines("log")[0]
    (one.folder / "broken").unlink()
    one.process.send_signal(signal.SIGHUP)
    one.until(lambda: len(one.lines("hup")) == 3)
    assert sorted(one.lines("hup")) == ["-1", "0", "1"], "once each: the refused one never arrived"
    assert one.end() == 0


def test_a_file_that_nobody_foresaw_once_ended_the_gateway_at_a_reload(start: Callable[..., Running]) -> None:
    """An error of ours while files are read is a refused reload like any other: told, counted, and mail goes on."""
    one = start()
    one.until(lambda: len(one.lines("ready")) == 3)
    (one.folder / "odd").touch()
    one.process.send_signal(signal.SIGHUP)
    one.until(lambda: one.lines("refused"))
    assert "tuple index out of range" in one.lines("log")[0]
    assert one.process.poll() is None
    assert one.lines("hup") == []
    assert one.end() == 0


def test_backoff_begins_small() -> None:
    """A worker's first restart waits a second, not half a minute."""
    assert Child(0).backoff == 0.5


@pytest.mark.parametrize("reuse", [False, True])
def test_reserve_refuses_a_port_that_somebody_listens_on(*, reuse: bool) -> None:
    """Also one that would share it (SO_REUSEPORT): two gateways on one port would each get half of the mail."""
    with socket.socket() as taken:
        if reuse:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for host in ("127.0.0.1", "0.0.0.0", ""):
            address = Endpoint(host=host, port=port)
            with pytest.raises(ConfigError, match=f"^cannot listen on {address}: Address already in use$"):
                reserve([Endpoint(host="127.0.0.1", port=0), address], patience=0.0)
    reserve([Endpoint(host="127.0.0.1", port=port)])


def test_reserve_refuses_an_address_that_is_not_ours() -> None:
    """A mistyped address is told before any worker starts."""
    with pytest.raises(ConfigError, match=r"^cannot listen on 192\.0\.2\.1:2525: "):
        reserve([Endpoint(host="192.0.2.1", port=2525)])
    with pytest.raises(ConfigError, match=r"^cannot listen on \[2001:db8::1\]:2525: "):
        reserve([Endpoint(host="2001:db8::1", port=2525)])


def test_a_start_right_after_kill_9_once_failed_on_its_own_port() -> None:
    """A killed process closes its sockets a moment later: the start waits for that, and no longer."""
    with socket.socket() as dying:
        dying.bind(("127.0.0.1", 0))
        dying.listen()
        address = Endpoint(host="127.0.0.1", port=dying.getsockname()[1])
        timer = threading.Timer(0.3, dying.close)
        timer.start()
        reserve([address], patience=10.0)
        timer.join()
