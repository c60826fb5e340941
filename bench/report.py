"""The table, the bars of what is asked for, and the machine it was measured on, as plain text or Markdown. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from bench import content, extraction
from bench.latency import Latencies
from bench.memory import Memory
from bench.passing import Passing
from bench.rows import TITLES, Cell

HEAD = ("size", "what", "msg/s", "± %", "of direct", "CPU s / 1,000", "clamd CPU s / 1,000", "peak MB")


@dataclass(slots=True)
class Results:
    """Everything that one run measured."""

    machine: dict[str, str] = field(default_factory=dict)
    cells: list[Cell] = field(default_factory=list)
    memory: dict[str, Memory] = field(default_factory=dict)
    latency: dict[str, Latencies] = field(default_factory=dict)
    finding: list[content.Row] = field(default_factory=list)
    reading: list[extraction.Row] = field(default_factory=list)
    passing: dict[str, Passing] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Bar:
    """One thing that is asked for. ``value`` None: not measured in this run."""

    name: str
    value: float | None
    wanted: float
    unit: str = "msg/s"
    at_most: bool = False

    @property
    def reached(self) -> bool:
        """Whether it is; also by a hair."""
        if self.value is None:
            return False
        return self.value <= self.wanted if self.at_most else self.value >= self.wanted

    def row(self) -> tuple[str, ...]:
        """What, wanted, measured, verdict."""
        sign = "≤" if self.at_most else "≥"
        wanted = f"{sign} {_number(self.wanted)} {self.unit}".strip()
        if self.value is None:
            return (self.name, wanted, "–", "not measured")
        factor = self.value / self.wanted
        return (
            self.name,
            wanted,
            f"{_number(self.value)} {self.unit}".strip(),
            f"{'reached' if self.reached else 'NOT REACHED'} ({factor:.2f} ×)",
        )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(cells: Sequence[Cell]) -> list[tuple[str, ...]]:
    """One line a cell, under :data:`HEAD`."""
    direct = {cell.size: cell.rate for cell in cells if cell.row == "direct"}
    return [_line(cell, direct.get(cell.size, 0.0)) for cell in cells]


def _line(cell: Cell, direct: float) -> tuple[str, ...]:
    title = TITLES[cell.row]
    if not cell.runs:
        return (cell.size.name, title, f"({cell.problem})", "", "", "", "", "")
    measured = cell.row != "direct"
    alone = cell.row.startswith("clamd")
    clamd = alone or cell.row.startswith("rules-clamd") or cell.row in ("amavis", "milter-clamd")
    return (
        cell.size.name,
        title + (f" ({cell.problem})" if cell.problem else ""),
        _number(cell.rate),
        f"{cell.spread * 50:.0f}",
        f"{cell.rate / direct:.2f}" if direct else "",
        _number(cell.cpu) if measured and not alone else "",
        _number(cell.clamd_cpu) if clamd else "",
        f"{cell.peak / 1e6:,.0f}" if measured else "",
    )


def bars(results: Results) -> list[Bar]:
    """What issue 2 asks for in section 7, with what was measured."""
    rates = {(cell.row, cell.size.name): cell.rate for cell in results.cells if cell.runs}

    def rate(row: str, size: str) -> float | None:
        return rates.get((row, size))

    def ratio(row: str, other: str, size: str) -> float | None:
        own, base = rates.get((row, size)), rates.get((other, size))
        return own / base if own is not None and base else None

    apart = ("rules-clamd-apart", "clamd-apart")
    found = [
        Bar("no rules, 2 KB, new connections", rate("new", "2 KB"), 1600),
        Bar("no rules, 2 KB, kept alive", rate("kept", "2 KB"), 4500),
        *(
            Bar(f"no rules, {size}, of the direct rate", ratio("new", "direct", size), 0.5, "×")
            for size in ("100 KB", "10 MB", "45 MB")
        ),
        Bar("all rules without clamd, 2 KB", rate("rules", "2 KB"), 1000),
        Bar("all rules without clamd, 100 KB", rate("rules", "100 KB"), 500),
        Bar("all rules with clamd, 2 KB, of amavisd-new", ratio("rules-clamd", "amavis", "2 KB"), 4, "×"),
        *(
            Bar(f"clamd-bound, {size}: of clamd alone, on a CPU of its own", ratio(*apart, size), 0.8, "×")
            for size in ("100 KB", "10 MB", "45 MB")
        ),
    ]
    for size in ("2 KB", "100 KB", "10 MB", "45 MB"):
        found.append(Bar(f"as milter, all rules, {size}: of rspamd", ratio("milter", "milter-rspamd", size), 1, "×"))
        found.append(
            Bar(f"as milter, all rules, {size}: of pymilter", ratio("milter", "milter-reading", size), 0.85, "×")
        )
    for name, memory in results.memory.items():
        found.append(
            Bar(f"worker, {memory.messages} × 45 MB in flight, {name}", memory.resident / 1e6, 200, "MB", at_most=True)
        )
    return found + _latency_bars(results.latency) + _content_bars(results)


GATEWAY, POSTFIX = "Civicgate, all rules and clamd, 45 MB passing", "Postfix's relay, 45 MB passing"


def _content_bars(results: Results) -> list[Bar]:
    found = []
    for column, rate in zip(content.COLUMNS, results.finding[0].rates, strict=True) if results.finding else ():
        if column.bar and isinstance(rate, float):
            found.append(Bar(f"information types, {column.name}", rate, column.bar, "MB/s"))
    for name, passing in results.passing.items():
        found.append(Bar(f"worker, 45 MB with a 30 MB document, {name}", passing.worker / 1e6, 200, "MB", at_most=True))
        if passing.alone.seconds and passing.beside.seconds:
            for percent, of in ((50, "median"), (95, "p95")):
                share = passing.beside.percentile(percent) / passing.alone.percentile(percent)
                found.append(Bar(f"2 KB beside it, {of}, of that alone, {name}", share, 2, "×", at_most=True))
    return found


def _latency_bars(latency: Mapping[str, Latencies]) -> list[Bar]:
    own, other = latency.get(GATEWAY), latency.get(POSTFIX)
    if own is None or other is None or not other.seconds or not own.seconds:
        return []
    return [
        Bar("latency p95, of Postfix's", own.percentile(95) / other.percentile(95), 2, "×", at_most=True),
        Bar("latency worst, of Postfix's", max(own.seconds) / max(other.seconds), 4, "×", at_most=True),
    ]


def render(results: Results, markdown: bool) -> str:
    """The whole report."""
    draw = _markdown if markdown else _plain
    parts = ["\n".join(f"{'- ' if markdown else ''}{name}: {value}" for name, value in results.machine.items())]
    if results.cells:
        parts.append(draw(HEAD, table(results.cells)))
    if results.memory:
        of_memory = (
            "messages in flight through one worker",
            "resident MB",
            "own MB",
            "inspection process MB",
            "seconds",
        )
        parts.append(draw(of_memory, [_memory_row(name, memory) for name, memory in results.memory.items()]))
    if results.latency:
        of_latency = (
            "2 KB message every 20 ms",
            "messages",
            "p50 ms",
            "p95 ms",
            "p99 ms",
            "worst ms",
            "45 MB meanwhile",
        )
        parts.append(draw(of_latency, [_latency_row(name, latency) for name, latency in results.latency.items()]))
    parts += _content_tables(results, draw)
    parts.append(draw(("bar", "asked for", "measured", ""), [bar.row() for bar in bars(results)]))
    if results.problems:
        parts.append("\n".join(f"Not measured: {problem}" for problem in results.problems))
    return "\n\n".join(parts) + "\n"


def _content_tables(results: Results, draw: Callable[[Sequence[str], Iterable[Sequence[str]]], str]) -> list[str]:
    """What is in messages: finding types, reading documents, both from end to end."""
    parts = []
    if results.finding:
        rows = [
            (str(n), row.name, *(r if isinstance(r, str) else _number(r) for r in row.rates))
            for n, row in enumerate(results.finding, 1)
        ]
        parts.append(draw(("", "finding types, MB/s", *(column.name for column in content.COLUMNS)), rows))
    if results.reading:
        parts.append(
            draw(
                ("format", "", "file MB", "text MB", "s / MB of file", "s / MB of text", "peak MB", "idle MB"),
                [_extraction_row(row) for row in results.reading],
            )
        )
    if results.passing:
        of_passing = (
            *("45 MB with a 30 MB document", "", "seconds", "worker MB", "own MB", "inspection process MB"),
            *("2 KB alone, p50 / p95 / worst ms", "beside it", "passed meanwhile"),
        )
        parts.append(draw(of_passing, [_passing_row(name, row) for name, row in results.passing.items()]))
    return parts


def _extraction_row(row: extraction.Row) -> tuple[str, ...]:
    return (
        row.name,
        "",
        f"{row.file / 1e6:.2f}",
        f"{row.text / 1e6:.2f}",
        f"{row.seconds / row.file * 1e6:.3f}",
        f"{row.seconds / max(row.text, 1) * 1e6:.3f}",
        f"{row.memory / 1e6:.0f}",
        f"{row.idle / 1e6:.0f}",
    )


def _passing_row(name: str, row: Passing) -> tuple[str, ...]:
    figures = (row.worker, row.own, row.inspector)
    latencies = [
        " / ".join(f"{some.percentile(p) * 1000:.1f}" for p in (50, 95, 100)) for some in (row.alone, row.beside)
    ]
    return (
        name, "", f"{row.seconds:.1f}", *(f"{figure / 1e6:,.0f}" for figure in figures), *latencies,
        str(row.beside.large),
    )  # fmt: skip


def _memory_row(name: str, memory: Memory) -> tuple[str, ...]:
    figures = (memory.resident, memory.anonymous, memory.inspector)
    return (
        f"{memory.messages} × 45 MB, {name}",
        *(f"{figure / 1e6:,.0f}" for figure in figures),
        f"{memory.seconds:.1f}",
    )


def _latency_row(name: str, latency: Latencies) -> tuple[str, ...]:
    values = [latency.percentile(p) for p in (50, 95, 99, 100)]
    return (name, str(len(latency.seconds)), *(f"{value * 1000:.1f}" for value in values), str(latency.large))


def _plain(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [tuple(head), *map(tuple, rows)]
    # A reason instead of a number must not widen its column.
    widths = [max(len(line[n]) for line in lines if not line[n].startswith("(")) for n in range(len(head))]
    drawn = []
    for number, line in enumerate(lines):
        cells = [
            cell.ljust(width) if n < 2 or cell.startswith("(") else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        drawn.append("  ".join(cells).rstrip())
        if number == 0:
            drawn.append("  ".join("─" * width for width in widths))
    return "\n".join(drawn)


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    align = ["---" if n < 2 else "---:" for n in range(len(head))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, align, *rows))
