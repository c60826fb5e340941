"""What was seen of the information types in one message: distinct values once, with where and how often.

Keeps no text; a value is kept for the time of one message, to tell the same from another. Refuses to keep more than
:data:`MAX_DISTINCT` values of a type.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from gateway.model.finding import QUOTED, Check, Confidence, Finding, Near, Published

MAX_DISTINCT = 5000
"""Distinct matches a type and message that are told apart; more are counted as if distinct."""
MAX_FINDINGS = 20
"""Findings a type, confidence and set of marks; the last one carries the count of the rest."""


class Place(NamedTuple):
    """Where a text stands."""

    part: str
    kind: str = "body"
    """``body``, ``attachment``, ``subject`` or ``file-name``."""
    own: bool = True
    """False: some of it may be quoted."""
    again: bool = False
    """True: a piece of a text that was looked at already."""
    shift: int = 0
    """Where the piece begins in the text, in octets."""


class Sighting(NamedTuple):
    """One match in one text."""

    type_: int
    key: str
    """What makes it the same as another one."""
    confidence: Confidence
    start: int
    end: int
    evidence: str


@dataclass(slots=True)
class Seen:
    """One distinct value."""

    confidence: Confidence
    part: str
    offset: int
    evidence: str
    places: set[str]
    marks: set[str] = field(default_factory=set)
    own: bool = False
    times: int = 0
    last: tuple[int, int] = (-1, -1)
    """Text and end of the last sighting: two patterns that see the same count once."""

    def shown_marks(self) -> tuple[str, ...]:
        """Places and marks, in order."""
        return (*sorted(self.places), *(() if self.own else (QUOTED,)), *sorted(self.marks))


@dataclass(slots=True)
class Tally:
    """What was seen in one message."""

    near: tuple[Near, ...] = ()
    """Questions of proximity."""
    published: tuple[Published, ...] = ()
    seen: dict[int, dict[str, Seen]] = field(default_factory=dict)
    surplus: dict[tuple[int, Confidence], int] = field(default_factory=dict)
    checked: int = 0
    unchecked: int = 0
    """Candidates that were not checked exactly."""
    texts: int = 0
    names: bool = False
    """True: names of persons are asked for, not only near what needs them."""

    def note(self, sighting: Sighting, place: Place, marks: tuple[str, ...] = ()) -> None:
        """Count one sighting."""
        of_type = self.seen.setdefault(sighting.type_, {})
        known = of_type.get(sighting.key)
        if known is None:
            if len(of_type) >= MAX_DISTINCT:
                at = (sighting.type_, sighting.confidence)
                self.surplus[at] = self.surplus.get(at, 0) + 1
                return
            known = of_type[sighting.key] = Seen(
                sighting.confidence, place.part, place.shift + sighting.start, sighting.evidence, {place.kind}
            )
        elif sighting.confidence > known.confidence:
            known.confidence, known.evidence = sighting.confidence, sighting.evidence
            known.part, known.offset = place.part, place.shift + sighting.start
        self.repeat(known, sighting.end, place)
        known.marks.update(marks)

    def repeat(self, known: Seen, end: int, place: Place) -> None:
        """Count one more sighting of a value that is known."""
        known.own = known.own or place.own
        known.places.add(place.kind)
        if not place.again and known.last != (self.texts, end):
            known.last = (self.texts, end)
            known.times += 1

    def findings(self, names: dict[int, str]) -> list[Finding]:
        """By type and falling confidence. ``names``: ids of the types that are asked."""
        found: list[Finding] = []
        for index, seen in self.seen.items():
            if index not in names:
                continue
            for question in self.published:
                for key, best in seen.items():
                    if "".join(c for c in key if c.isalnum()) in question.values:
                        best.marks.add(question.mark)
            for confidence in (Confidence.HIGH, Confidence.MEDIUM, Confidence.LOW):
                groups: dict[tuple[str, ...], list[Seen]] = {}
                for best in seen.values():
                    if best.confidence is confidence:
                        groups.setdefault(best.shown_marks(), []).append(best)
                surplus = self.surplus.get((index, confidence), 0)
                for n, (marks, same) in enumerate(groups.items(), 1):
                    found.extend(_rows(names[index], marks, same, surplus if n == len(groups) else 0))
        return found


def _rows(kind: str, marks: tuple[str, ...], same: list[Seen], surplus: int) -> list[Finding]:
    """Findings of values that are alike: one each, the last one with the rest."""
    shown = same[:MAX_FINDINGS]
    rows = []
    for n, best in enumerate(shown):
        last = n == len(shown) - 1
        count = len(same) - n + surplus if last else 1
        times = sum(other.times for other in same[n:]) + surplus if last else best.times
        rows.append(
            Finding(
                Check.CONTENT, kind, "", best.part, best.offset, best.confidence, best.evidence, count=count,
                marks=marks, sightings=max(times, count),
            )
        )  # fmt: skip
    return rows
