"""Small charts as numbers: where each bar begins and how high it is. A template draws them as inline SVG.

Refuses colours and styles: bars carry the name of a class, the style sheet knows the colour.
"""

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 400, 130
_TOP, _BOTTOM, _LEFT, _RIGHT = 14, 20, 30, 14


@dataclass(frozen=True, slots=True)
class Bar:
    """One rectangle."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    """``a`` to ``d``: a class of the style sheet."""
    title: str
    """What it says, in words."""


@dataclass(frozen=True, slots=True)
class Label:
    """A word below the base line."""

    x: float
    text: str


@dataclass(frozen=True, slots=True)
class Chart:
    """All that a template needs."""

    width: int
    height: int
    base: float
    top: int
    """The number at the upper line."""
    upper: float
    left: int
    bars: tuple[Bar, ...]
    labels: tuple[Label, ...]
    text: str
    """The whole chart in one sentence, for who does not see it."""


@dataclass(frozen=True, slots=True)
class Column:
    """One place on the horizontal axis: its label and stacked amounts, each with class and words."""

    label: str
    amounts: tuple[tuple[int, str, str], ...]


def columns(found: Sequence[Column], text: str, every: int = 1) -> Chart:
    """Stacked columns. ``every``: each so many-th column has its label written, counted from the last."""
    most = _round_up(max((sum(n for n, _, _ in c.amounts) for c in found), default=0))
    base, room = HEIGHT - _BOTTOM, HEIGHT - _BOTTOM - _TOP
    step = (WIDTH - _LEFT - _RIGHT) / max(len(found), 1)
    bars: list[Bar] = []
    labels: list[Label] = []
    for place, column in enumerate(found):
        x, y = _LEFT + place * step + step * 0.15, float(base)
        for amount, kind, words in column.amounts:
            height = room * amount / most
            y -= height
            if amount:
                bars.append(Bar(round(x, 1), round(y, 1), round(step * 0.7, 1), round(height, 1), kind, words))
        if (len(found) - 1 - place) % every == 0:
            labels.append(Label(round(x + step * 0.35, 1), column.label))
    return Chart(WIDTH, HEIGHT, base, most, _TOP, _LEFT, tuple(bars), tuple(labels), text)


def share(part: float, whole: float) -> float:
    """Percent, 0 to 100, one decimal."""
    return round(min(100.0, max(0.0, 100 * part / whole)), 1) if whole > 0 else 0.0


def _round_up(number: int) -> int:
    """The next number that reads well at an axis."""
    for unit in (1, 10, 100, 1000, 10_000, 100_000, 1_000_000):
        for factor in (1, 2, 5):
            if number <= factor * unit:
                return max(factor * unit, 1)
    return number
