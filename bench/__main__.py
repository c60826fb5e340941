"""``make bench``: measure, print one table.

    make bench                              everything, about ten minutes
    make bench ARGS='--quick'               a few rows, some seconds: does it run?
    make bench ARGS='--only new,kept --sizes "2 KB"'
    make bench ARGS='--markdown'            for docs/performance.md

Ends what it started, and nothing else.
"""

import argparse
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NoReturn

from bench import content, extraction, latency, memory, messages, passing
from bench.load import NotMeasuredError
from bench.messages import SIZES
from bench.report import GATEWAY, POSTFIX, Results, render
from bench.rows import QUICK, ROWS, Bench, Setup
from bench.servers import CannotStartError, program, sink, taker

EXTRAS = ("memory", "latency", "content")
IN_FLIGHT = 20
REPETITIONS = 4
LATENCY_SECONDS = 4.0
SMALL, LARGE = SIZES[0], SIZES[-1]


def say(text: str) -> None:
    """Progress, apart from the table."""
    print(text, file=sys.stderr, flush=True)


def _first_line(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except OSError:
        return "not installed"
    return (done.stdout or done.stderr).strip().splitlines()[0] if done.stdout or done.stderr else "unknown"


def machine() -> dict[str, str]:
    """What it is measured on; no name and no path of it."""
    model = "unknown"
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    return {
        "CPUs": f"{os.cpu_count()} ({model})",
        "kernel": platform.release(),
        "Python": platform.python_version(),
        "Postfix": _first_line("postconf", "-dh", "mail_version"),
        "clamd": _first_line("clamd", "--version"),
        "amavisd-new": _first_line("amavisd", "-V"),
        "load average before": " ".join(f"{value:.1f}" for value in os.getloadavg()),
    }


def chosen(text: str | None, all_of_them: tuple[str, ...]) -> tuple[str, ...]:
    """A comma-separated choice, in the order in which things are measured. Raises ValueError."""
    if text is None:
        return all_of_them
    wanted = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in wanted if name not in all_of_them]:
        raise ValueError(f"{', '.join(unknown)}: not among {', '.join(all_of_them)}")
    return tuple(name for name in all_of_them if name in wanted)


def measure_memory(setup: Setup, bench: Bench, results: Results) -> None:
    """Twenty large messages in flight through one worker."""
    for name, rules in (("no rules", "none"), ("all rules and clamd", "all")):
        say(f"memory: {IN_FLIGHT} × {LARGE.name}, {name}")
        try:
            server = setup.gateway(1, rules)
            results.memory[name] = memory.measure(server.pid, server.port, bench.source(LARGE), IN_FLIGHT)
        except (CannotStartError, NotMeasuredError) as problem:
            results.problems.append(f"memory, {name}: {problem}")


def measure_latency(folder: Path, results: Results) -> None:
    """Small messages while large ones pass, through the gateway and through Postfix in turns.

    Once with a last server that lets no session wait for another, and once with smtp-sink, which does.
    """
    for suffix, last in (("", taker), (", smtp-sink behind", sink)):
        place = folder / f"latency-{last.__name__}"
        place.mkdir(mode=0o755)
        with ExitStack() as stack:
            setup, large = Setup(place, stack, last), messages.write(place, LARGE)
            for number in range(REPETITIONS):
                say(f"latency{suffix}: repetition {number + 1} of {REPETITIONS}")
                for title, is_postfix in ((GATEWAY, False), (POSTFIX, True)):
                    try:
                        _beside(setup, large, title + suffix, is_postfix, results)
                    except (CannotStartError, NotMeasuredError) as problem:
                        results.problems.append(f"latency, {title}{suffix}: {problem}")


def _beside(setup: Setup, large: Path, title: str, is_postfix: bool, results: Results) -> None:
    """One repetition through one of them. Raises CannotStartError, NotMeasuredError."""
    port = setup.postfix.relay if is_postfix else setup.gateway(2, "all").port
    small = messages.content(SMALL)
    if title not in results.latency:
        latency.steady(port, small, 1.0)  # warm
        results.latency[title.replace("45 MB passing", "nothing else")] = latency.steady(port, small, 2.0)
    found = latency.measure(port, small, latency.large_source(large), LATENCY_SECONDS)
    results.latency.setdefault(title, latency.Latencies()).add(found)
    if is_postfix:
        setup.postfix.wait_until_empty()


def measure_content(setup: Setup, results: Results) -> None:
    """Finding types, reading documents, a large document from end to end."""
    results.finding = content.measure(say)
    results.reading = extraction.measure(setup.folder, say)
    place = setup.folder / "passing"
    place.mkdir(mode=0o755)
    with ExitStack() as stack:
        fair = Setup(place, stack, taker)  # smtp-sink answers nobody else while it reads a large message
        for name, rules in (("all rules, no clamd", "local"), ("all rules and clamd", "all")):
            say(f"passing: a 30 MB document, {name}")
            try:
                results.passing[name] = passing.measure(fair, rules)
            except (CannotStartError, NotMeasuredError) as problem:
                results.problems.append(f"a 30 MB document, {name}: {problem}")


def measure(options: argparse.Namespace, folder: Path) -> Results:
    """Everything that the options ask for."""
    results = Results(machine())
    started = time.monotonic()
    try:
        with ExitStack() as stack:
            setup = Setup(folder, stack)
            bench = Bench(setup, options.seconds)
            rows = tuple(row for row in options.only if row in ROWS)
            for size in SIZES if rows else ():
                if size.name in options.sizes:
                    results.cells += bench.measure(rows, size, say)
            if "memory" in options.only:
                measure_memory(setup, bench, results)
            if "latency" in options.only:
                measure_latency(folder, results)
            if "content" in options.only:
                measure_content(setup, results)
    finally:
        results.machine["load average after"] = " ".join(f"{value:.1f}" for value in os.getloadavg())
        results.machine["took"] = f"{time.monotonic() - started:.0f} s"
    return results


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line; --quick changes the defaults of the others."""
    parser = argparse.ArgumentParser(prog="make bench", description="Measures this gateway beside Postfix and others.")
    names = (*ROWS, *EXTRAS)
    sizes = tuple(size.name for size in SIZES)
    parser.add_argument("--quick", action="store_true", help="few rows, small messages, a second in all for each")
    parser.add_argument("--only", metavar="ROW,…", help=f"of {', '.join(names)}")
    parser.add_argument("--sizes", metavar="SIZE,…", help=f"of {', '.join(sizes)}")
    parser.add_argument("--seconds", type=float, help="for each cell (default: 3.6; --quick: 0.6)")
    parser.add_argument("--markdown", action="store_true", help="tables in Markdown")
    options = parser.parse_args(arguments)
    try:
        options.only = chosen(options.only, names) if options.only or not options.quick else QUICK
        options.sizes = chosen(options.sizes, sizes) if options.sizes or not options.quick else sizes[:2]
    except ValueError as error:
        parser.error(str(error))
    options.seconds = options.seconds or (0.6 if options.quick else 3.6)
    return options


def _interrupted(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def main() -> int:
    """The command line."""
    options = parse(None)
    signal.signal(signal.SIGTERM, _interrupted)
    try:
        program("smtp-source", "postfix")
        with tempfile.TemporaryDirectory(prefix="civicgate-bench-", ignore_cleanup_errors=True) as name:
            folder = Path(name)
            folder.chmod(0o755)  # Postfix and amavisd-new work as users of their own
            print(render(measure(options, folder), options.markdown))
    except CannotStartError as error:
        say(f"Cannot measure: {error}")
        return 1
    except KeyboardInterrupt:
        say("Interrupted; everything that was started has ended.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
