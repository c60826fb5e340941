"""What a server costs: CPU seconds and peak memory of a process and all that descend from it, out of /proc.

Linux only. A child that ended and was waited for counts through its parent, so nothing is lost when a server replaces
its processes while it is measured.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Process:
    """One line of /proc/PID/stat. ``ticks``: user and system time, its own and that of children it has waited for."""

    pid: int
    parent: int
    ticks: int


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds of a tree; ``peak`` is the highest resident size (octets) that any one process of it reached."""

    cpu: float = 0.0
    peak: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(self.cpu + other.cpu, max(self.peak, other.peak))


def parse_stat(line: str) -> Process:
    """Take /proc/PID/stat apart; the command's name may hold spaces and parentheses. See proc(5)."""
    head, _, rest = line.rpartition(")")
    fields = rest.split()
    return Process(int(head.split(" ", 1)[0]), int(fields[1]), sum(int(field) for field in fields[11:15]))


def parse_peak(status: str) -> int:
    """VmHWM of /proc/PID/status in octets, 0 when there is none (a zombie, a kernel thread)."""
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def parse_anonymous(status: str) -> int:
    """RssAnon of /proc/PID/status in octets: what is really the process's own, mapped files left out."""
    for line in status.splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


def processes() -> dict[int, Process]:
    """All of this machine's."""
    found = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                process = parse_stat((entry / "stat").read_text(encoding="utf-8", errors="replace"))
                found[process.pid] = process
    return found


def tree(all_of_them: Mapping[int, Process], roots: Iterable[int]) -> dict[int, int]:
    """The roots and what descends from them: pid to depth (0 for a root). Roots that are gone are left out."""
    children: dict[int, list[int]] = {}
    for process in all_of_them.values():
        children.setdefault(process.parent, []).append(process.pid)
    found = {pid: 0 for pid in roots if pid in all_of_them}
    waiting = list(found)
    while waiting:
        pid = waiting.pop()
        for child in children.get(pid, ()):
            if child not in found:
                found[child] = found[pid] + 1
                waiting.append(child)
    return found


@contextmanager
def placed(alone: int, others: Iterable[int]) -> Iterator[None]:
    """Give the process ``alone`` the machine's first CPU to itself; ``others``, their trees and we share the rest.

    All threads that there are by then; later ones inherit. At the end everybody may run everywhere again. Raises
    OSError when there is but one CPU.
    """
    cpus = os.sched_getaffinity(0)
    first, rest = {min(cpus)}, cpus - {min(cpus)}
    if not rest:
        raise OSError("there is one CPU only")
    all_of_them = processes()
    moved = dict.fromkeys((*tree(all_of_them, others), os.getpid()), rest)
    moved |= dict.fromkeys(tree(all_of_them, [alone]), first)
    try:
        for pid, where in moved.items():
            _run_on(pid, where)
        yield
    finally:
        for pid in moved:
            _run_on(pid, cpus)


def _run_on(pid: int, cpus: set[int]) -> None:
    with suppress(OSError):  # it has ended
        for thread in (PROC / str(pid) / "task").iterdir():
            with suppress(OSError):
                os.sched_setaffinity(int(thread.name), cpus)


def status(pid: int) -> str:
    """/proc/PID/status, empty when the process is gone."""
    try:
        return (PROC / str(pid) / "status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


class Meter:
    """Measures trees of processes from its making to :meth:`stop`."""

    def __init__(self, *roots: int) -> None:
        self._roots = roots
        now = processes()
        members = tree(now, roots)
        self._ticks = sum(now[pid].ticks for pid in members)
        for pid in members:
            with suppress(OSError):
                (PROC / str(pid) / "clear_refs").write_text("5", encoding="ascii")

    def stop(self) -> Usage:
        """What the trees used since. Processes that were born and died without being waited for are not seen."""
        now = processes()
        members = tree(now, self._roots)
        ticks = sum(now[pid].ticks for pid in members) - self._ticks
        return Usage(ticks / TICK, max((parse_peak(status(pid)) for pid in members), default=0))
