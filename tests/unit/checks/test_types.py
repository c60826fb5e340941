"""Every information type's own cases, and what a type may not be."""

from pathlib import Path

import pytest

from gateway.checks.plain import plain
from gateway.checks.scanner import Scanner, Tally, types_digest
from gateway.errors import ConfigErrors
from gateway.model.finding import Confidence
from gateway.policy.types import InformationType, Pattern, TypeCase, load_types
from tests.shipped import shipped_scanner, shipped_types

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = shipped_types()
CASES = [(t, case) for t in SHIPPED for case in t.cases]


@pytest.fixture(scope="module")
def shipped() -> Scanner:
    """All shipped types in one database."""
    return shipped_scanner()


@pytest.mark.parametrize(("type_", "case"), CASES, ids=[f"{t.id}: {c.it}" for t, c in CASES])
def test_the_cases_in_a_types_own_file_hold(type_: InformationType, case: TypeCase, shipped: Scanner) -> None:
    """What a type's file promises is what the scanner finds, all types compiled together."""
    tally = Tally(names=True)
    shipped.scan(plain(case.text), "1", tally)
    found = [f for f in shipped.findings(tally) if f.kind == type_.id and f.confidence >= case.confidence]
    assert sum(f.count for f in found) == case.count, found


def test_a_pattern_that_hyperscan_does_not_know_names_its_file() -> None:
    """Look-around is an error at load, with the file, and the good type beside it is not blamed."""
    bad = InformationType("odd", "Odd", patterns=(Pattern(r"(?<=a)b"),))
    good = InformationType("even", "Even", patterns=(Pattern(r"\d{4}"),))
    with pytest.raises(ConfigErrors) as caught:
        Scanner((good, bad))
    assert [e.file for e in caught.value.errors] == ["types/odd.yaml"]


def test_the_digest_tells_definitions_apart() -> None:
    """The same definitions have one digest in every process, a changed word another."""
    one = (InformationType("w", "W", words=("alpha",)),)
    assert types_digest(one) == types_digest((InformationType("w", "W", words=("alpha",)),))
    assert types_digest(one) != types_digest((InformationType("w", "W", words=("beta",)),))


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Harborview Parcel 7", 1), ("harborview   PARCEL 7", 1), ("Harborview\r\nParcel 7", 1),
        ("harborview parcel 77", 0), ("aharborview parcel 7", 0), ("HARBORVIEW PARCEL", 0),
        ("el precio de la ESCRITURA pública", 1), ("el precio de la escritura pu\u0301blica", 1),
        ("ｈａｒｂｏｒｖｉｅｗ parcel 7", 1), ("harb\u00adorview\u00a0parcel 7", 1),
        ("the seal", 1), ("the sealé", 0), ("éseal", 0), ("seal.", 1), ("sealant", 0), ("C++ code", 1), ("A/B", 1),
    ],
)  # fmt: skip
def test_keyword_lists_are_folded_and_whole_words(text: str, count: int) -> None:
    """Case, white space, width and accents' composition do not matter; word boundaries do."""
    words = ("Harborview Parcel 7", "escritura pública", "seal", "C++", "a/b")
    scanner, tally = Scanner((InformationType("w", "Words", words=words, word_confidence=Confidence.MEDIUM),)), Tally()
    scanner.scan(plain(text), "1", tally)
    found = scanner.findings(tally)
    assert sum(f.count for f in found) == count
    assert {f.confidence for f in found} <= {Confidence.MEDIUM}


def test_a_pattern_of_ones_own_is_found_and_redacted() -> None:
    """A city's own number format works without code, and its evidence shows the last four only."""
    badge = InformationType(
        "badge", "Badge", patterns=(Pattern(r"BDG-\d{6}", Confidence.HIGH),), redaction="BDG-**{last4}"
    )
    scanner, tally = Scanner((badge,)), Tally()
    scanner.scan(plain("badge BDG-123456, not XBDG-123456 nor BDG-1234567"), "1", tally)
    (found,) = scanner.findings(tally)
    assert (found.kind, found.evidence, found.value, found.offset) == ("badge", "BDG-**3456", "", 6)


def test_no_types_find_nothing() -> None:
    """An empty set of types compiles and scans."""
    scanner, tally = Scanner(()), Tally()
    scanner.scan(b"536-90-4399", "1", tally)
    assert scanner.findings(tally) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("id: sample", "id: other"), "differs from the file's name"),
        (("'\\d{4}'", "'(\\d{4}'"), "is no regular expression"),
        (("'\\d{4}'", "'\\d*'"), "matches the empty text"),
        (("confidence: high", "confidence: sure"), "is not low, medium or high"),
        (("validator: us-ssn", "validator: none"), "is not one of"),
        (("count: 0", "count: 1"), "near miss"),
        (("count: 1", "count: 0"), "at least one must fire"),
        (("title: Sample", "titel: Sample"), "unknown key"),
        (("redaction: '*{last4}'", "redaction: '{first4}'"), "placeholder"),
        (("keywords: [pin]", "keywords: []"), "needs_keyword without keywords"),
    ],
)
def test_a_type_that_cannot_work_is_refused_with_its_place(tmp_path: Path, change: tuple[str, str], words: str) -> None:
    """Each mistake is one error that names file and line; nothing is loaded in part."""
    text = (
        "id: sample\ntitle: Sample\npatterns:\n  - regex: '\\d{4}'\n    confidence: high\n    validator: us-ssn\n"
        "    needs_keyword: true\nkeywords: [pin]\nredaction: '*{last4}'\ncases:\n"
        "  - it: fires\n    text: a\n    expect: {count: 1}\n  - it: misses\n    text: b\n    expect: {count: 0}\n"
    )
    path = tmp_path / "sample.yaml"
    path.write_text(text)
    assert [t.id for t in load_types(tmp_path)] == ["sample"]
    path.write_text(text.replace(*change, 1))
    with pytest.raises(ConfigErrors) as caught:
        load_types(tmp_path)
    assert words in caught.value.detail
    assert f"{path}:" in caught.value.detail


def test_a_phrase_is_located_where_it_begins() -> None:
    """The offset is the phrase's first octet, whatever white space stands inside."""
    words = InformationType("w", "Words", words=("land purchase", "escritura pública"))
    for text, at in (("the  LAND \r\n\t purchase", 5), ("é: escritura pu\u0301blica", 4), ("land purchase", 0)):
        scanner, tally = Scanner((words,)), Tally()
        scanner.scan(plain(text), "1", tally)
        assert [f.offset for f in scanner.findings(tally)] == [at]


def test_the_same_phrase_in_two_compositions_counts_once() -> None:
    """Composed and decomposed accents are one distinct match."""
    scanner, tally = Scanner((InformationType("w", "Words", words=("pública",)),)), Tally()
    scanner.scan(plain("PÚBLICA pública pu\u0301blica"), "1", tally)
    assert [(f.evidence, f.count) for f in scanner.findings(tally)] == [("pública", 1)]
