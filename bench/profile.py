"""Shows where one worker's time goes: py-spy samples it while mail runs through, the busiest functions are listed.

    python -m bench.profile                 2 KB, kept alive: no rules, then all rules but clamd's
    python -m bench.profile --rules all --size '100 KB' --new

Needs py-spy (``pip install py-spy``) and the right to look into a process that is one's own child's.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.load import NotMeasuredError, Source
from bench.messages import SIZES
from bench.processes import PROC, TICK, parse_stat, processes, tree
from bench.rows import Bench, Setup
from bench.servers import CannotStartError

RATE = 500
"""Samples a second."""
MAIN_THREAD = "MainThread"


@dataclass(frozen=True, slots=True)
class Profile:
    """Samples by function, out of ``total``; a function counts once a sample, however deep it recurses."""

    total: int
    own: Counter[str]
    inclusive: Counter[str]


def aggregate(lines: Iterable[str]) -> Profile:
    """py-spy's raw format with threads: ``thread;frame;frame COUNT``, outermost first. Line numbers are left out.

    Only the main thread, that of the event loop, is looked at: the others mostly wait, which py-spy cannot tell.
    """
    own, inclusive, total = Counter[str](), Counter[str](), 0
    for line in lines:
        stack, _, count = line.rpartition(" ")
        if MAIN_THREAD not in stack or not count.isdigit():
            continue
        frames = [_function(frame) for frame in stack.split(";") if MAIN_THREAD not in frame]
        if not frames:
            continue
        total += int(count)
        own[frames[-1]] += int(count)
        for frame in set(frames):
            inclusive[frame] += int(count)
    return Profile(total, own, inclusive)


def _function(frame: str) -> str:
    """``name (some/path.py:12)`` → ``some/path.py name``."""
    name, _, place = frame.partition(" (")
    return f"{place.rstrip(')').rpartition(':')[0] or place.rstrip(')')} {name}"


def table(profile: Profile, per_message: float, count: int) -> str:
    """The busiest functions; ``per_message`` in microseconds of CPU is what all samples together stand for."""
    rows = []
    for title, counter in (("itself", profile.own), ("with what it calls", profile.inclusive)):
        rows.append(f"\n  {'%':>5} {'µs':>6}  {title}")
        for name, samples in counter.most_common(count):
            share = samples / profile.total
            rows.append(f"  {share * 100:5.1f} {share * per_message:6.1f}  {name}")
    return "\n".join(rows)


def busiest(parent: int) -> tuple[int, float]:
    """The worker, among the parent's children, that has used the most CPU, and how many seconds."""
    now = processes()
    pid = max((pid for pid, depth in tree(now, (parent,)).items() if depth == 1), key=lambda pid: now[pid].ticks)
    return pid, main_thread_ticks(pid) / TICK


def main_thread_ticks(pid: int) -> int:
    """User and system time of a process's first thread, in clock ticks."""
    return parse_stat((PROC / str(pid) / "task" / str(pid) / "stat").read_text(encoding="utf-8")).ticks


def profile(setup: Setup, source: Source, options: argparse.Namespace, rules: str) -> str:
    """Run the load under py-spy; the report."""
    program = shutil.which("py-spy", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if program is None:
        raise CannotStartError("py-spy is not there; pip install py-spy")
    server = setup.gateway(1, rules)
    kept = not options.new
    first = source.send(server.port, 400 if source.sessions > 4 else 4, kept=kept)
    count = round((400 if source.sessions > 4 else 4) / first * options.seconds)
    pid, before = busiest(server.pid)
    seconds = source.send(server.port, count, kept=kept)
    per_message = (busiest(server.pid)[1] - before) / count * 1e6
    raw = setup.folder / f"{rules}.raw"
    command = [program, "record", "-p", str(pid), "-d", str(round(options.seconds)), "-r", str(RATE)]
    sampler = subprocess.Popen(
        [*command, "--threads", "-f", "raw", "-o", str(raw)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        source.send(server.port, count, kept=kept)
    finally:
        sampler.wait(options.seconds + 30)
    found = aggregate(raw.read_text(encoding="utf-8").splitlines())
    head = f"rules: {rules}; {count / seconds:,.0f} msg/s, {per_message:.0f} µs CPU a message (event loop)"
    return head + table(found, per_message, options.count)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.profile", description="Where one worker's time goes.")
    parser.add_argument("--rules", choices=("none", "local", "all"), help="default: none, then local (all but clamd's)")
    parser.add_argument("--size", choices=[size.name for size in SIZES], default=SIZES[0].name)
    parser.add_argument("--new", action="store_true", help="a new connection for each message")
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--count", type=int, default=40, help="functions listed")
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="civicgate-bench-", ignore_cleanup_errors=True) as name:
            _all(Path(name), options)
    except (CannotStartError, NotMeasuredError) as error:
        print(f"Cannot measure: {error}", file=sys.stderr)
        return 1
    return 0


def _all(folder: Path, options: argparse.Namespace) -> None:
    folder.chmod(0o755)
    size = next(size for size in SIZES if size.name == options.size)
    with ExitStack() as stack:
        setup = Setup(folder, stack)
        source = Bench(setup, options.seconds).source(size)
        for rules in (options.rules,) if options.rules else ("none", "local"):
            print(profile(setup, source, options, rules), end="\n\n", flush=True)


if __name__ == "__main__":
    sys.exit(main())
