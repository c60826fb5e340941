"""How fast information types are found, all of them at once, beside other ways to look for the same expressions.

The others are asked for less than the gateway does: only where (or whether) an expression matches, no check digits, no
words around, no distinct values; presidio-analyzer for its own recognisers. Slow ones get the beginning of the text, as
much as they get through in some seconds. What is not installed says so. Refuses nothing.
"""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import re2

from bench import texts
from bench.load import NotMeasuredError
from gateway.checks.scanner import Scanner, Tally
from gateway.policy import load_types
from gateway.policy.types import InformationType

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 4.0
"""Seconds for one number of a slow one."""
_FIRST = 20_000
_MEGABYTE = 1_000_000
_SHORTEST = 5
"""Runs; the fastest counts, since what else the machine does can only slow one down."""
Find = Callable[[bytes], object]


@dataclass(frozen=True, slots=True)
class Text:
    """One column."""

    name: str
    octets: int
    every: int
    """A value in so many octets, 0: none."""
    bar: float
    """MB/s asked of the gateway, 0: none."""

    def content(self) -> bytes:
        """The text; some seconds for a large one."""
        return texts.dense(self.octets, self.every) if self.every else texts.plain(self.octets)


COLUMNS = (
    Text("1 MB, no match", _MEGABYTE, 0, 100),
    Text("5 MB, no match", 5 * _MEGABYTE, 0, 100),
    Text("1 MB, a value in 1,000 octets", _MEGABYTE, 1000, 30),
    Text("5 MB, a value in 1,000 octets", 5 * _MEGABYTE, 1000, 30),
    Text("1 MB, one in 400", _MEGABYTE, 400, 0),
    Text("1 MB, one in 200", _MEGABYTE, 200, 0),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One way to look, with MB/s a column; a text instead says why there is no number."""

    name: str
    rates: tuple[float | str, ...]


def measure(say: Callable[[str], None]) -> list[Row]:
    """All rows."""
    types = load_types(ROOT / "rules")
    contents = [column.content() for column in COLUMNS]
    rows = []
    for name, make in finders(types):
        say(f"content: {name}")
        try:
            find, slow = make()
            rows.append(Row(name, tuple(rate(find, content, slow) for content in contents)))
        except NotMeasuredError as problem:
            rows.append(Row(name, tuple(str(problem) if n == 0 else "" for n in range(len(COLUMNS)))))
    say("content: presidio-analyzer")
    rows.append(Row("presidio-analyzer, its own recognisers, spaCy's small model", _presidio()))
    return rows


def rate(find: Find, text: bytes, slow: bool) -> float:
    """MB/s of processor time, the fastest of some runs; of a slow one over as much as it gets through in time."""
    if slow:
        first = _seconds(find, text[:_FIRST])
        text = text[: max(_FIRST, min(len(text), int(_FIRST / first * PATIENCE / 2)))]
    spent, best = 0.0, float("inf")
    for _ in range(1 if slow else _SHORTEST):
        seconds = _seconds(find, text)
        spent, best = spent + seconds, min(best, seconds)
        if spent > PATIENCE:
            break
    return len(text) / best / _MEGABYTE


def _seconds(find: Find, text: bytes) -> float:
    started = time.process_time()
    find(text)
    return max(time.process_time() - started, 1e-6)


def finders(types: Sequence[InformationType]) -> list[tuple[str, Callable[[], tuple[Find, bool]]]]:
    """Ways to look: how each is made ready, and whether it is slow."""
    written = expressions(types)
    count = f"{len(written):,} expressions"
    return [
        (f"Civicgate, {len(types)} types, everything", lambda: (_ours(types), False)),
        (f"google-re2's Set, {count}: which match, not where", lambda: (_set(written), True)),
        (f"google-re2 one by one, {count}", lambda: (_one_by_one_re2(written), True)),
        (f"re one by one, {count}", lambda: (_one_by_one(written), True)),
    ]


def expressions(types: Sequence[InformationType]) -> list[str]:
    """The types' patterns and words, each as an expression of its own. Keywords and exclusions are left out."""
    patterns = [pattern.regex for type_ in types for pattern in type_.patterns]
    words = {w for t in types for some in (t.words, *(row.words for row in t.word_lists)) for w in some if w.isascii()}
    return [*dict.fromkeys(patterns), *(rf"(?i)\b{re.escape(word)}\b".replace("\\ ", r"\s+") for word in sorted(words))]


def _ours(types: Sequence[InformationType]) -> Find:
    scanner = Scanner(types)
    return lambda text: scanner.scan(text, "1", Tally())


def _one_by_one(written: Sequence[str]) -> Find:
    compiled = [re.compile(row.encode()) for row in written]
    return lambda text: [sum(1 for _ in row.finditer(text)) for row in compiled]


def _one_by_one_re2(written: Sequence[str]) -> Find:
    compiled = [re2.compile(row.encode()) for row in written]
    return lambda text: [sum(1 for _ in row.finditer(text)) for row in compiled]


def _set(written: Sequence[str]) -> Find:
    options = re2.Options()
    options.max_mem = 512 * _MEGABYTE
    together = re2.Set.SearchSet(options)
    for row in written:
        together.Add(row.encode())
    together.Compile()
    find: Find = together.Match
    return find


def _presidio() -> tuple[float | str, ...]:
    """In the environment that ``make quality`` makes, since its packages are no dependency of ours."""
    python = ROOT / ".venv-quality/bin/python"
    if not python.exists():
        return ("not installed («make quality» installs it)", *([""] * (len(COLUMNS) - 1)))
    command = [str(python), "-m", "bench.content"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["it failed"]
        return (said[-1][:100], *([""] * (len(COLUMNS) - 1)))
    return tuple(json.loads(done.stdout.strip().splitlines()[-1]))


def _measure_presidio() -> list[float]:
    from bench.quality.presidio import Presidio  # noqa: PLC0415 - there in one environment only
    from bench.quality.samples import Sample  # noqa: PLC0415

    presidio = Presidio()

    def find(text: bytes) -> object:
        return presidio.find(Sample("measured", text.decode()))

    return [rate(find, column.content(), True) for column in COLUMNS]


if __name__ == "__main__":
    print(json.dumps(_measure_presidio()), file=sys.stdout)
