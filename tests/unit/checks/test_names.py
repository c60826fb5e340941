"""Names of persons by lists: what is one, how sure, where they are looked for, and what it costs."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.checks.names import Names, spans_around
from gateway.checks.scanner import Scanner
from gateway.checks.tally import Tally
from gateway.model.finding import Confidence, Near
from gateway.policy.namelists import NameLists
from gateway.policy.types import Companions, InformationType

LISTS = NameLists(
    given=("Jennifer", "Mark", "Søren", "Kim"), family=("Miller", "Brown", "O'Neil", "Kim"),
    ordinary=("hi", "mark", "brown", "the", "ask", "my", "will", "green"),
    never=("York", "Monday"), behind=("street", "inc"),
)  # fmt: skip
NAMES = Names(LISTS)
LOW, MEDIUM, HIGH = Confidence.LOW, Confidence.MEDIUM, Confidence.HIGH
PERSON = InformationType("person", "Person", names=LISTS)
ILL = InformationType(
    "ill", "Ill", words=("flu",), word_confidence=LOW,
    companions=Companions(("person",), 200, confidence=MEDIUM, unsure_within=20),
)  # fmt: skip


def found(text: str) -> list[tuple[str, Confidence]]:
    """The names and how sure they are."""
    data = text.encode()
    return [(data[n.start : n.end].decode(), n.confidence) for n in NAMES.find(data)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ask Jennifer Miller.", [("Jennifer Miller", MEDIUM)]),
        ("Mark Miller and Søren B. Ødegård", [("Mark Miller", MEDIUM), ("Søren B. Ødegård", MEDIUM)]),
        ("is Jennifer O'Neil's car", [("Jennifer O'Neil's", MEDIUM)]),
        ("Hi Jennifer, it is Miller", [("Jennifer", LOW), ("Miller", LOW)]),
        ("meet Djevad Mitnjek", [("Djevad Mitnjek", LOW)]),
        ("Jennifer van der Berg", [("Jennifer van der Berg", MEDIUM)]),
    ],
    ids=range(6),
)
def test_names_are_found(text: str, expected: list[tuple[str, Confidence]]) -> None:
    """A given name before another is sure, one alone or two strange words are not."""
    assert found(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "The Brown Ask", "Mark my words. Will Green?", "12 Miller", "Miller Street", "Jennifer Miller Inc", "Miller 7",
        "New York Miller", "JENNIFER MILLER", "jennifer miller", "x@Miller.example",
        "http://a.example/Miller", "Mitnjek", "Kim Kim Kim Kim", "", "A. B. C.",
    ],
    ids=range(15),
)  # fmt: skip
def test_other_words_with_a_capital_are_none(text: str) -> None:
    """Ordinary words, streets, companies, places, headings, addresses, one strange word, long rows."""
    assert found(text) == []


def test_a_name_counts_for_its_companion_when_it_is_near_and_sure() -> None:
    """Nobody asks for names here: they are looked for near the word that needs one."""
    scanner = Scanner((ILL, PERSON))
    assert scanner.names == {"person"}

    def kinds(text: str, near: tuple[Near, ...] = ()) -> list[str]:
        tally = Tally(near)
        scanner.scan(text.encode(), "1", tally)
        return sorted(f.kind for f in scanner.findings(tally, frozenset({"ill"})))

    assert kinds("Jennifer Miller has the flu") == ["ill"]
    assert kinds("Jennifer has the flu") == []  # not sure enough
    assert kinds("Jennifer Miller " + "went home " * 5 + "flu") == []  # too far for a name that no form holds
    assert kinds("the flu") == []


def test_names_that_are_asked_for_are_looked_for_everywhere() -> None:
    """Alone in the scanner or beside others; unasked they are not."""
    for types in ((PERSON,), (ILL, PERSON)):
        scanner = Scanner(types)
        for asked in (True, False):
            tally = Tally(names=asked)
            scanner.scan(b"Jennifer Miller went home", "1", tally)
            assert [f.kind for f in scanner.findings(tally)] == (["person"] if asked else [])


def test_a_rule_may_ask_for_a_name_near_something() -> None:
    """Proximity of two types: the name is looked for there, and nowhere else."""
    word = InformationType("word", "Word", words=("permit",), word_confidence=HIGH)
    scanner, near = Scanner((word, PERSON)), Near(frozenset({"word"}), "person", 30, LOW)
    for text, marked in (("permit of Jennifer", True), ("permit " + "and " * 20 + "Jennifer", False)):
        tally = Tally((near,))
        scanner.scan(text.encode(), "1", tally)
        (seen,) = [f for f in scanner.findings(tally) if f.kind == "word"]
        assert (near.mark in seen.marks) is marked


def test_spans_cut_no_word_and_do_not_overlap() -> None:
    """Near places share one span, whose end is the end of a word."""
    data = b"a" * 500 + b" Jennifer Miller " + b"b" * 300
    assert spans_around(data, [(100, 110, 50), (130, 140, 50), (505, 509, 3)]) == [(0, 516)]
    assert spans_around(data, [(0, 10, 5), (600, 605, 5)]) == [(0, 500), (535, 817)]
    assert spans_around(b"", []) == []


@pytest.mark.parametrize(
    "unit", ["A", "Ab ", "A. ", "Miller and ", "É", "Ab van de ", "Jennifer Miller, ", "O'"], ids=range(8)
)
def test_any_repetition_is_read_in_time(unit: str) -> None:
    """Linear: 300 KB in seconds of processor time at most, whoever else computes."""
    data = (unit * (300_000 // len(unit))).encode()[:300_000]
    began = time.process_time()
    list(NAMES.find(data))
    assert time.process_time() - began < 3


@given(st.binary(max_size=300))
def test_no_octets_break_it(data: bytes) -> None:
    """Whatever stands there, names lie in it and do not overlap."""
    end = 0
    for name in NAMES.find(data):
        assert end <= name.start < name.end <= len(data)
        end = name.end
