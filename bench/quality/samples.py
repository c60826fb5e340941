"""Texts with labels, and the split into what rules are tuned on and what is held out.

The split follows from the text's name alone, so that it is the same on every machine and no text changes sides when
others are added. Refuses labels that name no place in their text.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

HELD_OUT = 3
"""One text in so many is held out."""


@dataclass(frozen=True, slots=True)
class Label:
    """One value of a type and where it stands, in characters."""

    type_: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One text and all that is to be found in it."""

    name: str
    """Unique in its set and the same in every run."""
    text: str
    labels: tuple[Label, ...] = ()
    scored: frozenset[str] | None = None
    """Types that are judged in this text; None: all. What is found of others says nothing."""
    group: str = ""
    """Technique, or the type that the text was written for."""
    markup: bool = False
    """True: HTML, which is read as people see it."""
    octets: bytes = field(default=b"", repr=False)
    """A whole message; then ``text`` is empty."""

    @property
    def held_out(self) -> bool:
        """True for the third that is reported."""
        return is_held_out(self.name)


def is_held_out(name: str) -> bool:
    """The split: SHA-256 of the name, modulo three."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % HELD_OUT == 0


def part(samples: Iterable[Sample], tune: bool) -> list[Sample]:
    """The held-out third, or the other two."""
    return [sample for sample in samples if sample.held_out is not tune]
