"""Fuzz: ``python -m tests.fuzz [--minutes N] [name …]`` runs a process for each harness, all at once.

Begins with the committed corpus, keeps what it learns in ``var/fuzz/<name>`` and what breaks a promise in
``var/fuzz/found``. Ends with 1 when there is such a thing. Needs atheris (``pip install .[fuzz]``).
"""

import argparse
import importlib
import subprocess
import sys
from pathlib import Path

NAMES = ("mime_tree", "plain_form", "type_scan", "coded", "readers", "inspection", "milter_session")
HERE = Path(__file__).resolve().parent
LEARNT = HERE.parents[1] / "var" / "fuzz"
MEMORY = 2048
"""MiB that one process may take."""
STALLED = 600
"""Seconds by the wall after which one input is a hang: on a busy machine the lowest priority waits for minutes, so the
harnesses measure processor time themselves (:mod:`tests.fuzz.bounds`)."""


def fuzz(name: str, options: list[str]) -> None:
    """Run one harness in this process until libFuzzer ends it."""
    import atheris  # noqa: PLC0415 - not installed where tests only replay the corpora

    with atheris.instrument_imports(include=["gateway"]):
        harness = importlib.import_module(f"tests.fuzz.{name}")
    own, found = LEARNT / name, LEARNT / "found"
    for folder in (own, found):
        folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(harness.seeds()):
        (own / f"seed-{number}").write_bytes(seed)
    words = LEARNT / f"{name}.dict"
    quoted = ("".join(f"\\x{octet:02x}" for octet in token) for token in harness.TOKENS)
    words.write_text("".join(f'"{token}"\n' for token in quoted), encoding="ascii")
    corpora = [str(own), *(str(f) for f in (HERE / "corpora" / name,) if f.is_dir())]
    arguments = [
        *(sys.argv[0], *corpora, f"-dict={words}", f"-max_len={harness.LONGEST}", f"-artifact_prefix={found}/{name}-"),
        *(
            f"-rss_limit_mb={MEMORY}",
            f"-timeout={STALLED}",
            f"-report_slow_units={STALLED}",
            "-print_final_stats=1",
            "-len_control=20",
            *options,
        ),
    ]
    atheris.Setup(arguments, harness.check)
    atheris.Fuzz()


def main() -> int:
    """Start what is asked for and wait."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz the hostile-format readers.")
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(NAMES)}; all when none is given")
    parser.add_argument("--seconds", type=int, default=3600, help="how long each runs")
    parser.add_argument("--minutes", type=float, help="the same in minutes; goes before --seconds")
    parser.add_argument("--here", action="store_true", help="run the one harness in this process")
    given, options = parser.parse_known_args()
    seconds = given.seconds if given.minutes is None else max(1, round(60 * given.minutes))
    names = given.names or list(NAMES)
    if set(names) - set(NAMES):
        parser.error(f"there are {', '.join(NAMES)}")
    if given.here:
        fuzz(names[0], [f"-max_total_time={seconds}", *options])
        return 0
    command = ["nice", "-n", "19", sys.executable, "-m", "tests.fuzz", "--here", "--seconds", str(seconds)]
    running = {name: subprocess.Popen([*command, name, *options]) for name in names}
    codes = {name: process.wait() for name, process in running.items()}
    version = ".".join(map(str, sys.version_info[:3]))
    for name, code in codes.items():
        print(f"{name}: {seconds} s on Python {version}: {'nothing found' if not code else f'ended with {code}'}")
    return int(any(codes.values()))


if __name__ == "__main__":
    sys.exit(main())
