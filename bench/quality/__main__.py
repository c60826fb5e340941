"""``make quality``: how well the information types are found, on four sets, beside presidio-analyzer.

    make quality                                 the held-out third of each set, some minutes
    make quality ARGS='--only city,ham'          some sets
    make quality ARGS='--tune --mistakes us-ssn' the other two thirds, and what went wrong in them

Mistakes are shown for tuning only: what is held out stays unseen.
"""

import argparse
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from bench.quality import city, ham
from bench.quality.finders import Finder, Ours
from bench.quality.report import Results, render
from bench.quality.samples import Sample, part
from bench.quality.score import Score, score
from gateway.policy.types import load_types

RULES = Path("rules")
SETS = ("city", "synthetic", "evasions", "ham")


def say(text: str) -> None:
    """Progress, apart from the tables."""
    print(text, file=sys.stderr, flush=True)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make quality", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", default=",".join(SETS), help="sets, with commas between")
    parser.add_argument("--tune", action="store_true", help="the two thirds that rules are tuned on")
    parser.add_argument("--mistakes", metavar="TYPES", help="with --tune: show mistakes of these types («all»)")
    parser.add_argument("--without-presidio", action="store_true", help="measure the gateway alone")
    chosen = parser.parse_args(arguments)
    chosen.only = chosen.only.split(",")
    if unknown := set(chosen.only) - set(SETS):
        parser.error(f"no such set: {', '.join(sorted(unknown))}")
    if chosen.mistakes and not chosen.tune:
        parser.error("--mistakes needs --tune")
    return chosen


def sources(types: frozenset[str]) -> dict[str, Callable[[], list[Sample]]]:
    """The sets. Those that need a package load it when they are asked."""
    return {
        "city": lambda: city.load(types),
        "synthetic": lambda: import_module("bench.quality.synthetic").load(),
        "evasions": lambda: import_module("bench.quality.evasions").load(),
        "ham": ham.load,
    }


def measure(chosen: argparse.Namespace) -> Results:
    """Everything asked for; what cannot be measured is said."""
    ours = Ours(load_types(RULES))
    results = Results(chosen.tune)
    finders: list[Finder] = [ours]
    if not chosen.without_presidio:
        try:
            finders.append(import_module("bench.quality.presidio").Presidio())
        except ImportError as error:
            results.problems.append(f"presidio ({error})")
    load = sources(ours.types)
    for name in chosen.only:
        try:
            samples = part(load[name](), chosen.tune)
        except (ImportError, ham.NoHamError) as error:
            results.problems.append(f"{name} ({error})")
            continue
        for finder in finders if name != "ham" else finders[:1]:
            say(f"{name}: {len(samples)} texts, {finder.name}")
            results.scores.setdefault(name, {})[finder.name] = score(finder, samples, ours.types)
    return results


def mistakes(found: Score, wanted: str) -> list[str]:
    """What was missed or found wrongly at ``medium``, for tuning."""
    return [
        f"{kind}\t{type_}\t{sample.name.partition('/has/')[0]}\t{sample.text[:300]!r}"
        for kind, type_, sample in found.mistakes
        if wanted == "all" or type_ in wanted.split(",")
    ]


def main() -> None:
    """Measure and print."""
    chosen = parse()
    results = measure(chosen)
    print(render(results))
    if chosen.mistakes:
        for name, scores in results.scores.items():
            print(f"\n{name}", *mistakes(scores["civicgate"], chosen.mistakes), sep="\n")


if __name__ == "__main__":
    main()
