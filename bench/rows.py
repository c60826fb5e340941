"""The rows of the table: what is between smtp-source and smtp-sink, and how it is measured, in turns.

Every row's first run is short; it warms what it runs through and tells how many messages the measured runs need. The
measured runs of all rows take turns, so that what else the machine does falls on all of them alike.
"""

import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from bench import messages, milters, scanning
from bench.load import NotMeasuredError, Source, next_count, reading_time
from bench.messages import Size
from bench.postfix import Postfix, postfix
from bench.processes import Meter, Usage, placed
from bench.servers import RULES as ALL_RULES
from bench.servers import CannotStartError, Server, amavis, clamd, gateway, rules_without_clamd, sink

T = TypeVar("T")

TITLES = {
    "direct": "source → sink",
    "postfix-proxy": "Postfix smtpd_proxy_filter → sink",
    "postfix-relay": "Postfix through its queue",
    "new": "Civicgate, no rules, new connections, 2 workers",
    "new-1": "Civicgate, no rules, new connections, 1 worker",
    "kept": "Civicgate, no rules, kept alive, 2 workers",
    "kept-1": "Civicgate, no rules, kept alive, 1 worker",
    "postfix-gateway": "Postfix smtpd_proxy_filter → Civicgate, no rules",
    "rules": "Civicgate, all rules, no clamd, 2 workers",
    "rules-kept": "Civicgate, all rules, no clamd, kept alive, 2 workers",
    "clamd": "clamd alone, the same scans",
    "rules-clamd": "Civicgate, all rules and clamd, 2 workers",
    "clamd-apart": "clamd alone on a CPU of its own",
    "rules-clamd-apart": "Civicgate, all rules, clamd on a CPU of its own",
    "amavis": "amavisd-new, same clamd, no spam checks",
    **milters.TITLES,
}
"""Row → what stands in the table. New connections unless it says otherwise."""
ROWS = tuple(TITLES)
QUICK = ("direct", "new", "kept", "rules")
LARGER_ONLY = frozenset(("clamd-apart", "rules-clamd-apart"))
"""Rows that ask whether clamd is what bounds: of interest where its work is most of all."""
SMALL_ONLY = frozenset(("new-1", "kept-1", "rules-kept"))
"""Rows that are measured with the smallest message only."""
ROUNDS = 3
SLOW = {"amavis": 10}
"""Rows whose first run is so many times shorter."""


@dataclass(frozen=True, slots=True)
class Run:
    """One measured run."""

    count: int
    seconds: float
    usage: Usage
    clamd: Usage = field(default_factory=Usage)


@dataclass(slots=True)
class Cell:
    """All runs of one row with one size, or why there are none."""

    row: str
    size: Size
    runs: list[Run] = field(default_factory=list)
    problem: str = ""

    @property
    def rate(self) -> float:
        """Messages a second over all runs."""
        return sum(r.count for r in self.runs) / sum(r.seconds for r in self.runs) if self.runs else 0.0

    @property
    def spread(self) -> float:
        """How far the runs lie apart: (fastest − slowest) / rate."""
        rates = [r.count / r.seconds for r in self.runs]
        return (max(rates) - min(rates)) / self.rate if rates else 0.0

    @property
    def cpu(self) -> float:
        """CPU seconds for 1,000 messages of what is measured, clamd left out."""
        return sum(r.usage.cpu for r in self.runs) / sum(r.count for r in self.runs) * 1000 if self.runs else 0.0

    @property
    def clamd_cpu(self) -> float:
        """Clamd's CPU seconds for 1,000 messages."""
        return sum(r.clamd.cpu for r in self.runs) / sum(r.count for r in self.runs) * 1000 if self.runs else 0.0

    @property
    def peak(self) -> int:
        """Octets: the highest resident size of any one process."""
        return max((r.usage.peak for r in self.runs), default=0)


class Setup:
    """The servers. Each starts when a row first asks for it and ends with the stack; one that cannot is not retried."""

    def __init__(
        self, folder: Path, stack: ExitStack, last: Callable[[Path], AbstractContextManager[Server]] = sink
    ) -> None:
        """``last``: the server at the end of every row."""
        self.folder = folder
        self._stack = stack
        self._gateways: dict[tuple[int, str], Server] = {}
        self._failed: dict[object, CannotStartError] = {}
        self._postfix: Postfix | None = None
        self._clamd: tuple[Path, int] | None = None
        self._amavis: Server | None = None
        self._asking: dict[str, tuple[Postfix, int]] = {}
        self.sink = stack.enter_context(last(folder))

    def gateway(self, workers: int, rules: str) -> Server:
        """The gateway with ``rules``: ``none``, ``local`` (all but clamd's) or ``all``."""
        key = (workers, rules)
        if key not in self._gateways:
            self._gateways[key] = self._try(key, lambda: self._start_gateway(workers, rules))
        return self._gateways[key]

    def _start_gateway(self, workers: int, rules: str) -> Server:
        folder: Path | None = None
        if rules == "all":
            folder = ALL_RULES
        elif rules == "local":
            folder = self.folder / "rules-without-clamd"
            if not folder.exists():
                folder = rules_without_clamd(self.folder)
        return self._stack.enter_context(
            gateway(
                self.folder / f"gateway-{rules}-{workers}",
                self.sink.port,
                workers=workers,
                rules=folder,
                clamd_socket=self.clamd[0] if rules == "all" else None,
            )
        )

    @property
    def clamd(self) -> tuple[Path, int]:
        """Its socket and its pid."""
        if self._clamd is None:
            self._clamd = self._try("clamd", lambda: self._stack.enter_context(clamd(self.folder / "clamd")))
        return self._clamd

    @property
    def postfix(self) -> Postfix:
        """Its proxies lead to the sink and to the gateway without rules."""
        if self._postfix is None:
            filters = (self.sink.port, self.gateway(2, "none").port)
            self._postfix = self._try(
                "postfix",
                lambda: self._stack.enter_context(postfix(self.folder / "postfix", self.sink.port, filters)),
            )
        return self._postfix

    @property
    def amavis(self) -> Server:
        """With the same clamd."""
        if self._amavis is None:
            where, port, socket = self.folder / "amavis", self.sink.port, self.clamd[0]
            self._amavis = self._try("amavis", lambda: self._stack.enter_context(amavis(where, port, socket)))
        return self._amavis

    def asking(self, row: str) -> tuple[Postfix, int]:
        """The Postfix of a row with milters, and the milter's pid, 0 for none."""
        if row not in self._asking:
            self._asking[row] = self._try(row, lambda: self._start_asking(row))
        return self._asking[row]

    def _start_asking(self, row: str) -> tuple[Postfix, int]:
        enter, pid, socket = self._stack.enter_context, 0, None
        rules = {"milter": "local", "milter-clamd": "all", "milter-none": "none"}.get(row)
        if rules is not None:
            pid = self.gateway(2, rules).pid
            socket = self.folder / f"gateway-{rules}-2" / "milter.sock"
        elif row != "queue":
            started = milters.reading if row == "milter-reading" else milters.rspamd
            socket, pid = enter(started(self.folder / f"{row}-server"))
        return enter(milters.asking(self.folder / row, self.sink.port, socket)), pid

    def _try(self, key: object, start: Callable[[], T]) -> T:
        if key in self._failed:
            raise self._failed[key]
        try:
            return start()
        except CannotStartError as error:
            self._failed[key] = error
            raise


class Bench:
    """Measures cells."""

    def __init__(self, setup: Setup, seconds: float) -> None:
        self._setup = setup
        self._seconds = seconds
        self._sources: dict[int, Source] = {}

    def source(self, size: Size) -> Source:
        """smtp-source with the message of that size."""
        if size.octets not in self._sources:
            path = messages.write(self._setup.folder, size)
            self._sources[size.octets] = Source(path, size.sessions, reading_time(path))
        return self._sources[size.octets]

    def run(self, row: str, size: Size, count: int) -> Run:
        """One run of so many messages. Raises NotMeasuredError, CannotStartError."""
        setup, source = self._setup, self.source(size)
        if row == "direct":
            return Run(count, source.send(setup.sink.port, count), Usage())
        if row == "clamd":
            return self._scans(size, count)
        if row in LARGER_ONLY:
            return self._apart(row, size, count)
        if row == "postfix-relay":
            return self._relayed(setup.postfix, source, count)
        if row in milters.TITLES:
            server, pid = setup.asking(row)
            return self._relayed(server, source, count, pid, setup.clamd[1] if row == "milter-clamd" else 0)
        port, *roots = self._where(row)
        scanned = row in ("rules-clamd", "amavis")
        meter, second = Meter(*roots), Meter(*((setup.clamd[1],) if scanned else ()))
        seconds = source.send(port, count, kept=row in ("kept", "kept-1", "rules-kept"))
        return Run(count, seconds, meter.stop(), second.stop())

    def _apart(self, row: str, size: Size, count: int) -> Run:
        """The row of the same name with clamd on a CPU that nobody else uses."""
        setup = self._setup
        same = row.removesuffix("-apart")
        others = [setup.sink.pid, *((setup.gateway(2, "all").pid,) if same != "clamd" else ())]
        try:
            with placed(setup.clamd[1], others):
                return self.run(same, size, count)
        except OSError as error:
            raise NotMeasuredError(str(error)) from error

    def _where(self, row: str) -> tuple[int, ...]:
        """The port that mail goes to, and the processes whose trees are measured."""
        setup = self._setup
        if row == "postfix-proxy":
            return setup.postfix.proxies[0], setup.postfix.pid
        if row == "postfix-gateway":
            return setup.postfix.proxies[1], setup.postfix.pid, setup.gateway(2, "none").pid
        if row == "amavis":
            server = setup.amavis
        elif row.startswith("rules"):
            server = setup.gateway(2, "all" if row == "rules-clamd" else "local")
        else:
            server = setup.gateway(1 if row.endswith("-1") else 2, "none")
        return server.port, server.pid

    @staticmethod
    def _relayed(relay: Postfix, source: Source, count: int, *pids: int) -> Run:
        """Until the queue is empty, not only until Postfix has accepted. ``pids``: of its milter, of clamd."""
        milter, clamd_pid = (*pids, 0, 0)[:2]
        relay.wait_until_empty()
        meter = Meter(relay.pid, *((milter,) if milter else ()))
        second = Meter(*((clamd_pid,) if clamd_pid else ()))
        seconds = source.send(relay.relay, count)
        started = time.perf_counter()
        relay.wait_until_empty()
        return Run(count, seconds + time.perf_counter() - started, meter.stop(), second.stop())

    def _scans(self, size: Size, count: int) -> Run:
        socket, pid = self._setup.clamd
        meter = Meter(pid)
        seconds = scanning.scan(socket, messages.content(size), count)
        usage = meter.stop()
        return Run(count, seconds, usage, usage)

    def measure(self, rows: Iterable[str], size: Size, say: Callable[[str], None]) -> list[Cell]:
        """All rows with one size, in turns."""
        left_out = LARGER_ONLY if size.octets < 10_000 else SMALL_ONLY
        cells = [Cell(row, size) for row in rows if row not in left_out]
        counts = {cell.row: self._first(cell) for cell in cells}
        for number in range(ROUNDS):
            for cell in cells if number % 2 == 0 else reversed(cells):
                if counts[cell.row]:
                    self._again(cell, counts[cell.row])
        for cell in cells:
            say(f"{size.name:>7}  {TITLES[cell.row]}: {cell.problem or f'{cell.rate:,.1f} msg/s'}")
        return cells

    def _first(self, cell: Cell) -> int:
        """The short run. Returns the number of messages for each measured one; 0: none are needed, or possible."""
        try:
            first = self.run(cell.row, cell.size, max(4, cell.size.first // SLOW.get(cell.row, 1)))
        except (CannotStartError, NotMeasuredError) as problem:
            cell.problem = str(problem)
            return 0
        if first.seconds > self._seconds * 1.5:
            cell.runs.append(first)
            return 0
        return next_count(first.count, first.seconds, self._seconds / ROUNDS, min(cell.size.sessions, first.count))

    def _again(self, cell: Cell, count: int) -> None:
        try:
            cell.runs.append(self.run(cell.row, cell.size, count))
        except NotMeasuredError as problem:
            cell.problem = str(problem)
