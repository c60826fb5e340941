"""Counts what was found rightly, wrongly and not at all; precision, recall, F1, and how sure a rate is.

A labelled value is found when a finding of its type begins in it. What is found of a judged type outside all labels is
one false positive a text and type, however often.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from bench.quality.finders import Finder, Found, covers
from bench.quality.samples import Label, Sample
from gateway.model.finding import Confidence

LEVELS = (Confidence.LOW, Confidence.MEDIUM, Confidence.HIGH)


@dataclass(slots=True)
class Counts:
    """Right, wrong and missed."""

    right: int = 0
    wrong: int = 0
    missed: int = 0

    @property
    def precision(self) -> float:
        """Share of findings that are right; 1 when nothing was found."""
        return self.right / (self.right + self.wrong) if self.right + self.wrong else 1.0

    @property
    def recall(self) -> float:
        """Share of values that were found; 1 when there is none."""
        return self.right / (self.right + self.missed) if self.right + self.missed else 1.0

    @property
    def f1(self) -> float:
        """The harmonic mean of both."""
        whole = 2 * self.right + self.wrong + self.missed
        return 2 * self.right / whole if whole else 1.0

    def add(self, other: "Counts") -> None:
        """Add up."""
        self.right += other.right
        self.wrong += other.wrong
        self.missed += other.missed


@dataclass(slots=True)
class Score:
    """What one finder reached on one set."""

    counts: dict[tuple[str, Confidence], Counts] = field(default_factory=dict)
    by_group: dict[tuple[str, str], Counts] = field(default_factory=dict)
    """By group of texts and type, at ``low``."""
    mistakes: list[tuple[str, str, Sample]] = field(default_factory=list)
    """Kind (``missed`` or ``wrong``), type and text, at ``medium``."""
    texts: int = 0

    def of(self, type_: str, level: Confidence) -> Counts:
        """The counts of a type at a confidence."""
        return self.counts.setdefault((type_, level), Counts())


def score(finder: Finder, samples: Iterable[Sample], types: frozenset[str]) -> Score:
    """Let the finder look at the texts, and judge the types asked for that it knows."""
    asked = types & finder.types
    result = Score()
    for sample in samples:
        result.texts += 1
        found = finder.find(sample)
        for type_ in asked if sample.scored is None else asked & sample.scored:
            labels = [label for label in sample.labels if label.type_ == type_]
            mine = [one for one in found if one.type_ == type_]
            if labels or mine:
                _judge(result, sample, type_, labels, mine)
    return result


def _judge(result: Score, sample: Sample, type_: str, labels: list[Label], found: list[Found]) -> None:
    for level in LEVELS:
        counts = compare(labels, [one for one in found if one.confidence >= level])
        result.of(type_, level).add(counts)
        if level is Confidence.LOW:
            result.by_group.setdefault((sample.group, type_), Counts()).add(counts)
        if level is Confidence.MEDIUM:
            kinds = (("missed", counts.missed), ("wrong", counts.wrong))
            result.mistakes.extend((kind, type_, sample) for kind, number in kinds if number)


def compare(labels: list[Label], found: list[Found]) -> Counts:
    """The counts of one type in one text."""
    right = sum(any(covers(label, one) for one in found) for label in labels)
    wrong = any(not any(covers(label, one) for label in labels) for one in found)
    return Counts(right, int(wrong), len(labels) - right)


def interval(hits: int, of: int, sure: float = 0.95) -> tuple[float, float]:
    """The exact (Clopper–Pearson) interval of a rate."""
    if not of:
        return 0.0, 1.0
    tail = (1 - sure) / 2
    low = 0.0 if not hits else _solve(lambda p: 1 - _at_most(hits - 1, of, p) < tail)
    high = 1.0 if hits == of else _solve(lambda p: _at_most(hits, of, p) > tail)
    return low, high


def _solve(below: Callable[[float], bool]) -> float:
    """Where a test that holds from 0 on ceases to hold."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) else (low, middle)
    return low


def _at_most(hits: int, of: int, p: float) -> float:
    """The probability of at most so many hits."""
    if p <= 0:
        return 1.0
    if p >= 1:
        return float(hits >= of)
    logs = (
        math.lgamma(of + 1) - math.lgamma(k + 1) - math.lgamma(of - k + 1) + k * math.log(p) + (of - k) * math.log1p(-p)
        for k in range(hits + 1)
    )
    return min(1.0, sum(math.exp(value) for value in logs))
