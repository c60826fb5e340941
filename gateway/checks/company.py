"""What matches say of each other, once a whole text has been seen: words that gather weight, companions near by.

Looks at places only. Linear in the number of sightings, or nearly so. Refuses nothing.
"""

from bisect import bisect_left
from collections.abc import Iterable
from typing import NamedTuple

from gateway.checks.tally import Sighting
from gateway.model.finding import Confidence
from gateway.policy.types import Gather


def raised(confidence: Confidence, steps: int) -> Confidence:
    """So many steps surer, at most high and at least low."""
    return _STEPS[max(Confidence.LOW, min(Confidence.HIGH, confidence + steps))]


_STEPS = {int(each): each for each in Confidence}


class Positions(NamedTuple):
    """Where a type was seen: starts in order, and for each the value."""

    starts: list[int]
    keys: list[tuple[int, int]]
    """Start and end, by start."""
    longest: int


def positions_of(sightings: Iterable[Sighting]) -> Positions:
    """Of sightings in any order."""
    spans = sorted((s.start, s.end) for s in sightings)
    return Positions([s for s, _ in spans], spans, max((e - s for s, e in spans), default=0))


def has_near(others: Positions, one: Sighting, within: int) -> bool:
    """True when another span begins or ends at most ``within`` octets from the sighting; not the same span."""
    at = bisect_left(others.starts, one.start - within - others.longest)
    tried = 0
    while at < len(others.keys) and others.starts[at] <= one.end + within and tried < _TRIED:
        start, end = others.keys[at]
        if end >= one.start - within and (start, end) != (one.start, one.end):
            return True
        at += 1
        tried += 1
    return False


_TRIED = 50
"""Neighbours that are compared at most: all but the sighting's own span and what ends too early are near."""


def gathered(sightings: list[Sighting], gather: Gather) -> list[Sighting]:
    """Each a step surer for ``distinct`` different ones around it, two for twice as many. Linear: two pointers.

    A phrase within a longer one («trade secret information») is not another one.
    """
    ordered = _longest(sightings)
    counts: dict[str, int] = {}
    first = last = 0
    surer = []
    for one in ordered:
        while last < len(ordered) and ordered[last].start <= one.start + gather.within:
            counts[ordered[last].key] = counts.get(ordered[last].key, 0) + 1
            last += 1
        while ordered[first].start < one.start - gather.within:
            gone = ordered[first].key
            counts[gone] -= 1
            if not counts[gone]:
                del counts[gone]
            first += 1
        surer.append(one._replace(confidence=raised(one.confidence, min(2, len(counts) // gather.distinct))))
    return surer


def _longest(sightings: list[Sighting]) -> list[Sighting]:
    """By start, without those that lie within another one; of the same place the surest."""
    kept: list[Sighting] = []
    for one in sorted(sightings, key=lambda s: (s.start, -s.end, -s.confidence)):
        if not kept or one.end > kept[-1].end:
            kept.append(one)
    return kept
