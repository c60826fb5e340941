"""The quality run: its own texts' held-out third reaches the bars, and what is held out is the same everywhere."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

from bench.quality import city
from bench.quality.__main__ import parse
from bench.quality.finders import Found, Ours, covers
from bench.quality.report import CHECKED, HELPERS, NEARBY, WORDS, Results, bars, ham_wrong, pooled, render
from bench.quality.samples import Label, Sample, is_held_out, part
from bench.quality.score import Counts, Score, compare, interval, score
from gateway.model.finding import Confidence
from tests.shipped import shipped_types

SHORT = frozenset({"us-driver-licence", "ip-address"})
"""Types of three or four held-out texts that fall short in the city's set alone (docs/quality.md says so)."""


@cache
def names() -> frozenset[str]:
    """Of all shipped types."""
    return frozenset(type_.id for type_ in shipped_types())


@cache
def texts() -> Sequence[Sample]:
    """The project's own."""
    return city.load(names())


@pytest.fixture(scope="module")
def ours() -> Ours:
    """All shipped types, compiled."""
    return Ours(shipped_types())


@pytest.fixture(scope="module")
def held_out(ours: Ours) -> Results:
    """The city's held-out third, judged."""
    results = Results(tune=False)
    results.scores["city"] = {"civicgate": score(ours, part(texts(), tune=False), names())}
    return results


def test_every_type_has_texts_of_both_kinds() -> None:
    """At least 200 texts; each shipped type has some that hold it and some that only look so, on either side."""
    assert len(texts()) >= 200
    assert {sample.group for sample in texts()} == names()
    for type_ in names():
        for tune in (True, False):
            mine = [s for s in part(texts(), tune) if s.group == type_]
            assert any(any(label.type_ == type_ for label in s.labels) for s in mine), type_
            assert any(all(label.type_ != type_ for label in s.labels) for s in mine), type_


def test_half_of_the_texts_are_near_misses() -> None:
    """Neither kind outweighs the other by more than a tenth."""
    misses = sum(all(label.type_ != sample.group for label in sample.labels) for sample in texts())
    assert 0.4 <= misses / len(texts()) <= 0.6


def test_the_split_is_the_names_alone() -> None:
    """A text's side never changes: these are the sides of three names, and a third is held out."""
    assert [is_held_out(name) for name in ("city/a", "city/b", "city/c", "city/d", "city/e", "city/f")] == [
        False
    ] * 4 + [True] * 2
    assert 0.25 < len(part(texts(), tune=False)) / len(texts()) < 0.42
    assert not {s.name for s in part(texts(), tune=True)} & {s.name for s in part(texts(), tune=False)}
    assert len({s.name for s in texts()}) == len(texts())


@pytest.mark.parametrize("type_", CHECKED)
def test_checked_numbers_reach_their_bar(held_out: Results, type_: str) -> None:
    """F1 of 0.95 for types with check digits or numbers never issued, at medium."""
    assert pooled(held_out, "civicgate", type_, Confidence.MEDIUM).f1 >= 0.95


@pytest.mark.parametrize("type_", [t for t in WORDS + NEARBY if t not in SHORT])
def test_words_reach_their_bar(held_out: Results, type_: str) -> None:
    """F1 of 0.85 for types that are known by words or by the words beside them, at medium."""
    assert pooled(held_out, "civicgate", type_, Confidence.MEDIUM).f1 >= 0.85


def test_all_types_of_words_together_reach_their_bar(held_out: Results) -> None:
    """No type in which a handful of texts decide: all of them as one, those that fall short among them."""
    whole = Counts()
    for type_ in WORDS + NEARBY:
        whole.add(pooled(held_out, "civicgate", type_, Confidence.MEDIUM))
    assert whole.f1 >= 0.95


def test_near_misses_are_hardly_ever_found_at_high(held_out: Results) -> None:
    """At high, what rules act on, a finding in the city's texts is right 49 times of 50."""
    whole = Counts()
    for type_ in names() - HELPERS:
        whole.add(held_out.scores["city"]["civicgate"].of(type_, Confidence.HIGH))
    assert whole.precision >= 0.98


def test_the_tables_say_what_is_not_reached(held_out: Results) -> None:
    """A bar that is missed says no; one that is reached says yes."""
    assert "| F1 of us-ssn | 1.000 | ≥ 0.950 | yes |" in render(held_out)
    poor = Results(tune=True)
    poor.scores["city"] = {"civicgate": Score({("us-ssn", Confidence.MEDIUM): Counts(1, 1, 1)})}
    assert [bar.reached for bar in bars(poor)] == [False]
    assert "| F1 of us-ssn | 0.500 | ≥ 0.950 | **no** |" in render(poor)


def test_a_finding_is_right_where_the_value_stands() -> None:
    """One finding of two values finds one; what stands elsewhere is wrong once."""
    labels = [Label("t", 100, 110), Label("t", 200, 210)]
    found = [Found("t", 100, Confidence.LOW), Found("t", 500, Confidence.LOW), Found("t", 600, Confidence.LOW)]
    assert compare(labels, found) == Counts(right=1, wrong=1, missed=1)
    assert not covers(labels[0], Found("other", 100, Confidence.LOW))


def test_offsets_are_those_of_the_text(ours: Ours) -> None:
    """Line ends of mail, accents and what is not seen do not shift what is found."""
    text = "Zürich\n\nn\u200bo\u00ad, SSN 536-90-4399"
    (found,) = [f for f in ours.find(Sample("x", text)) if f.type_ == "us-ssn"]
    assert text[found.start :].startswith("536")


@pytest.mark.parametrize(
    ("hits", "of", "low", "high"),
    [(0, 1000, 0.0, 0.003682), (1, 2000, 0.0000127, 0.002783), (5, 10, 0.18709, 0.81291), (10, 10, 0.69150, 1.0)],
)
def test_a_rates_interval_is_clopper_and_pearsons(hits: int, of: int, low: float, high: float) -> None:
    """Known values of the exact interval, 95 per cent."""
    assert interval(hits, of) == pytest.approx((low, high), abs=5e-5)


def test_what_only_helps_is_no_false_positive() -> None:
    """In real mail a name is expected; everything else counts."""
    found = Score({("person-name", Confidence.HIGH): Counts(0, 7, 0), ("us-ssn", Confidence.HIGH): Counts(0, 2, 0)})
    assert ham_wrong(found, Confidence.HIGH) == (2, {"person-name": 7, "us-ssn": 2})


def test_mistakes_are_shown_for_tuning_only() -> None:
    """What is held out cannot be printed."""
    with pytest.raises(SystemExit):
        parse(["--mistakes", "all"])
    assert parse(["--tune", "--mistakes", "all"]).tune


def test_a_mark_without_its_type_is_refused(tmp_path: Path) -> None:
    """A typing error in a label cannot pass for a text without any."""
    (tmp_path / "x.yaml").write_text("us-ssn:\n  has: ['[[us-sn|536-90-4399]]']\n  misses: []\n")
    with pytest.raises(ValueError, match="wrong"):
        city.load(names(), tmp_path)
