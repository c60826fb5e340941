"""The parent process: checks that the ports are free, starts the workers, passes reloads on, drains, restarts the dead.

It handles no mail. Each worker is a fresh process with its own event loop and its own listening sockets on the same
port (SO_REUSEPORT). Refuses to start next to another gateway on the same port: SO_REUSEPORT alone would let the two
share it, silently.
"""

import errno
import os
import signal
import socket
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from gateway.errors import CivicgateError, ConfigError
from gateway.settings import Endpoint, Settings

_BACKOFF_LONGEST = 30.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
OBSERVER = -1
"""Number of the process that is the observer."""
CONSOLE = -2
"""Number of the process that is the console."""


PATIENCE = 3.0
"""Seconds for which a start waits for a port: the processes of a gateway that was killed may still be ending."""


def reserve(addresses: list[Endpoint], patience: float = PATIENCE) -> None:
    """Raise :class:`ConfigError` when one of the addresses is not ours, or still taken after ``patience`` seconds."""
    deadline = time.monotonic() + patience
    for address in addresses:
        while (error := _refusal(address)) is not None:
            if error.errno != errno.EADDRINUSE or time.monotonic() >= deadline:
                raise ConfigError(f"cannot listen on {address}: {error.strerror}") from error
            time.sleep(0.05)


def _refusal(address: Endpoint) -> OSError | None:
    """Why nobody can listen there now."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.host, address.port))
        except OSError as error:
            return error
    return None


@dataclass
class Child:
    """One worker process."""

    number: int
    pid: int = 0
    started: float = 0.0
    backoff: float = 0.5
    restart_at: float = 0.0


@dataclass
class Parent:
    """Runs ``work(number)`` in so many processes until it is told to stop.

    ``work`` returns the exit code of its process. ``check`` reads settings and rules anew and raises when they cannot
    be used: a reload reaches the workers only when it passes.
    """

    settings: Settings
    work: Callable[[int], int]
    check: Callable[[], object]
    log: Any
    on_exit: Callable[[int], None]
    on_refusal: Callable[[], None] = lambda: None
    """A reload was refused: the workers never hear of it, so it is counted here."""
    _children: list[Child] = field(default_factory=list)
    _stopping: bool = False
    _reload: bool = False

    def run(self) -> int:
        """Until SIGTERM or SIGINT. Returns the exit code."""
        count = self.settings.workers or os.cpu_count() or 1
        beside = (OBSERVER, CONSOLE) if self.settings.console.enabled else (OBSERVER,)
        self._children = [Child(number) for number in (*beside, *range(count))]
        for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(name, self._signalled)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for child in self._children:
            self._start(child)
        try:
            while not self._stopping:
                self._turn()
        finally:
            self._stop()
        return 0

    def _signalled(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._reload = True
        else:
            self._stopping = True

    def _turn(self) -> None:
        """Wait for something, then do what is to be done."""
        time.sleep(0.2)
        if self._stopping:
            return
        if self._reload:
            self._reload = False
            self._pass_on_reload()
        self._reap()
        now = time.monotonic()
        for child in self._children:
            if not child.pid and now >= child.restart_at:
                self._start(child)

    def _start(self, child: Child) -> None:
        child.started = time.monotonic()
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # until the child's own dispositions stand: none is lost
        pid = os.fork()
        if pid == 0:
            code = 70
            try:
                for name in _SIGNALS:
                    signal.signal(name, signal.SIG_DFL)
                signal.signal(signal.SIGHUP, signal.SIG_IGN)  # who is still starting reads the newest files anyway
                signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
                code = self.work(child.number)
            except BaseException:  # noqa: BLE001 - the fork ends here; what ended it must not end with it
                self.log.error("worker crashed", worker=child.number, problem=traceback.format_exc())
            finally:
                os._exit(code)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        child.pid = pid

    def _reap(self) -> None:
        for child in self._children:
            if not child.pid:
                continue
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid:
                self.on_exit(pid)
                lived = time.monotonic() - child.started
                child.backoff = 0.5 if lived > 60 else min(child.backoff * 2, _BACKOFF_LONGEST)
                child.restart_at = time.monotonic() + child.backoff
                child.pid = 0
                self.log.error(
                    "worker ended", worker=child.number, pid=pid, status=os.waitstatus_to_exitcode(status),
                    restart_in_s=child.backoff,
                )  # fmt: skip

    def _pass_on_reload(self) -> None:
        try:
            self.check()
        except Exception as error:  # noqa: BLE001 - whatever stands in a file, the gateway goes on with the old ones
            problem = error.detail if isinstance(error, CivicgateError) else traceback.format_exc()
            self.log.error("reload refused, the old settings and rules stay", problem=problem)
            self.on_refusal()
            return
        self.log.info("reload")
        self._signal_all(signal.SIGHUP)

    def _signal_all(self, number: int) -> None:
        for child in self._children:
            if child.pid:
                os.kill(child.pid, number)

    def _stop(self) -> None:
        """Drain: tell the workers, wait for them, end those that do not."""
        self._signal_all(signal.SIGTERM)
        deadline = time.monotonic() + self.settings.smtp.drain_timeout + 5.0
        while any(child.pid for child in self._children) and time.monotonic() < deadline:
            for child in self._children:
                if child.pid and os.waitpid(child.pid, os.WNOHANG)[0]:
                    self.on_exit(child.pid)
                    child.pid = 0
            time.sleep(0.05)
        self._signal_all(signal.SIGKILL)
        for child in self._children:
            if child.pid:
                os.waitpid(child.pid, 0)
