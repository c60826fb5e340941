"""What a type's file can say beyond patterns and words: lists in files, exact extents, companions, gathered phrases."""

import re
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from gateway.checks.expressions import squeezed
from gateway.checks.plain import plain, plain_text
from gateway.checks.scanner import Scanner
from gateway.checks.tally import MAX_FINDINGS, Place, Tally
from gateway.model.finding import Confidence, Finding, Near, Published
from gateway.policy import types
from gateway.policy.types import Companions, Gather, InformationType, Pattern, WordList, load_types

ROOT = Path(__file__).resolve().parents[3]
LOW, MEDIUM, HIGH = Confidence.LOW, Confidence.MEDIUM, Confidence.HIGH
BADGE = InformationType("badge", "Badge", patterns=(Pattern(r"BDG-\d{4}", LOW),), redaction="{last4}")
WORDS = InformationType("illness", "Illness", words=("flu", "broken leg"), word_confidence=LOW)


def seen(types: tuple[InformationType, ...], text: str) -> list[tuple[str, str, Confidence]]:
    """Type, evidence and confidence of all that is found."""
    scanner, tally = Scanner(types), Tally()
    scanner.scan(plain(text), "1", tally)
    return [(f.kind, f.evidence, f.confidence) for f in scanner.findings(tally)]


def test_an_exact_expression_says_how_far_a_match_goes() -> None:
    """The short expression finds, the exact one decides, its group is the value; what does not fit is no match."""
    pin = Pattern(r"pin", HIGH, edges="start", exact=r"pin(?: is|:) ?(\d{4,6})\b", never=("0000", "1234"))
    some = (InformationType("pin", "Pin", patterns=(pin,), redaction="{last4}"),)
    assert seen(some, "pin: 4711, pin is 815900, pin: 47, spin: 9999, pin 2222") == [
        ("pin", "4711", HIGH), ("pin", "5900", HIGH)
    ]  # fmt: skip
    assert seen(some, "pin: 1234 and pin: 0000") == []


def test_a_pattern_for_introduced_values_wants_the_keyword_directly_before() -> None:
    """Near is not enough, and an exclusion between the two outweighs the keyword."""
    number = Pattern(r"\d{5}", needs_keyword=True, introduced=True)
    some = (InformationType("n", "N", patterns=(number,), keywords=("chart",), exclusions=("room",)),)
    assert [c for _, _, c in seen(some, "chart no 12345")] == [HIGH]
    assert seen(some, "12345 is on the chart") == []
    assert seen(some, "chart in room 12345") == []


@pytest.mark.parametrize(
    ("text", "count"), [("10.1.2.3", 1), ("10.9.0.1", 0), ("192.0.2.1", 0), ("fd00::1", 1), ("10.1.2.300", 0)]
)
def test_networks_tell_addresses_apart(text: str, count: int) -> None:
    """Inside the networks and not in those left out."""
    pattern = Pattern(r"[0-9a-f]{1,4}[.:]", HIGH, "ip-address", edges="start", exact=r"[0-9a-f.:]+")
    own = InformationType(
        "own", "Own", patterns=(pattern,), inside=(ip_network("10.0.0.0/8"), ip_network("fd00::/8")),
        outside=(ip_network("10.9.0.0/16"),),
    )  # fmt: skip
    assert len(seen((own,), f"at {text} now")) == count


def test_companions_must_stand_near() -> None:
    """A word counts beside a badge, surer by the steps; further away, or with nobody, it does not."""
    record = InformationType("r", "R", words=("flu",), word_confidence=LOW, companions=Companions(("badge",), 20))
    assert ("r", "flu", MEDIUM) in seen((BADGE, record), "BDG-1234 has the flu")
    assert ("r", "flu", MEDIUM) in seen((BADGE, record), "flu of BDG-1234")
    assert [k for k, _, _ in seen((BADGE, record), "BDG-1234 is well. Others at the desk have the flu")] == ["badge"]
    assert seen((BADGE, record), "the flu is around") == []


def test_companions_that_are_not_required_only_make_surer() -> None:
    """Without one the match stays as it is."""
    helped = Companions(("badge",), 20, required=False, steps=2)
    record = InformationType("r", "R", words=("flu",), word_confidence=LOW, companions=helped)
    assert seen((BADGE, record), "the flu is around") == [("r", "flu", LOW)]
    assert ("r", "flu", HIGH) in seen((BADGE, record), "flu BDG-1234")


def test_companions_of_companions_are_settled_first() -> None:
    """A type that itself needs company is company only when it has it."""
    middle = InformationType("b-middle", "M", words=("flu",), companions=Companions(("badge",), 20))
    outer = InformationType("a-outer", "O", words=("ward",), companions=Companions(("b-middle",), 20))
    some = (outer, middle, BADGE)
    assert {k for k, _, _ in seen(some, "BDG-1234: flu, ward 3")} == {"badge", "b-middle", "a-outer"}
    assert seen(some, "flu, ward 3") == []


def test_phrases_gather_weight() -> None:
    """Two different ones near each other are a step surer, four two; the same one twice is one, far apart is none."""
    words = ("plaintiff", "lawsuit", "deposition", "subpoena", "trade secret", "trade secret information")
    case = InformationType("c", "C", word_lists=(WordList(words, LOW),), gather=Gather(2, 60))
    assert {c for _, _, c in seen((case,), "plaintiff and again plaintiff")} == {LOW}
    assert {c for _, _, c in seen((case,), "plaintiff files lawsuit")} == {MEDIUM}
    assert {c for _, _, c in seen((case,), "plaintiff, lawsuit, deposition, subpoena")} == {HIGH}
    assert {c for _, _, c in seen((case,), "plaintiff" + " and so on" * 10 + " lawsuit")} == {LOW}
    assert seen((case,), "trade secret information") == [("c", "trade secret information", LOW)]


def test_one_word_can_mean_something_to_two_types() -> None:
    """A phrase in two lists counts for both."""
    one, two = (InformationType(i, i, words=("wire transfer",)) for i in ("one", "two"))
    assert [k for k, _, _ in seen((one, two), "Wire\r\n   transfer!")] == ["one", "two"]


def test_words_are_found_under_look_alike_letters() -> None:
    """Cyrillic, full-width, mathematical and circled characters, and unseen ones between, hide no word."""
    some = (InformationType("w", "W", words=("password list", "Пароль")),)
    hidden = (
        "pаsswоrd list",
        "ｐａｓｓｗｏｒｄ　list",
        "𝐩𝐚𝐬𝐬𝐰𝐨𝐫𝐝 list",
        "pass\u200bword\u00ad li\u2060st",
        "ⓟassword list",
    )
    for text in hidden:
        assert [e for _, e, _ in seen(some, text)] == ["password list"], text
    assert [e for _, e, _ in seen(some, "мой пароль здесь")] == ["Пароль"]


@given(st.text(max_size=60))
def test_plain_text_is_its_own_plain_form(text: str) -> None:
    """Making plain twice changes nothing more, and ASCII without NUL stays as it is."""
    once = plain_text(text)
    assert plain_text(once) == once
    if text.isascii() and "\0" not in text:
        assert once == text


def content(questions: Tally, *texts: tuple[str, Place]) -> list[Finding]:
    """Findings of badges and words in several texts of one message."""
    scanner = Scanner((BADGE, WORDS))
    for text, place in texts:
        scanner.scan(plain(text), place, questions)
    return scanner.findings(questions)


def test_marks_say_where_a_value_stands() -> None:
    """All places of one value are on its finding; sightings count every time, the value once."""
    (found,) = content(
        Tally(), ("BDG-1234 BDG-1234", Place("1")), ("BDG-1234", Place("", "subject")), ("x", Place("2", "attachment"))
    )
    assert (found.count, found.sightings, found.marks) == (1, 3, ("body", "subject"))


def test_a_value_is_quoted_only_when_all_of_it_is() -> None:
    """What stands in a text that quotes is quoted until it is seen in the sender's own words, or elsewhere."""
    whole, own = "BDG-1111\n> BDG-2222", "BDG-1111\n"
    found = content(Tally(), (whole, Place("1", own=False)), (own, Place("1", again=True)))
    assert {f.evidence: ("quoted" in f.marks, f.sightings) for f in found} == {"1111": (False, 1), "2222": (True, 1)}
    (found_elsewhere,) = content(Tally(), ("> BDG-2222", Place("1", own=False)), ("BDG-2222", Place("2", "attachment")))
    assert "quoted" not in found_elsewhere.marks


def test_near_questions_are_answered_for_each_value() -> None:
    """The mark stands on values that have the other type within so many octets in the same text, and surely enough."""
    near = Near(frozenset({"badge"}), "illness", 10, LOW)
    surer = Near(frozenset({"badge"}), "illness", 10, HIGH)
    text = "BDG-1111 has flu." + " " * 40 + "BDG-2222 has nothing"
    found = content(Tally((near, surer)), (text, Place("1")), ("BDG-2222", Place("2")), ("flu", Place("3")))
    badges = {f.evidence: f.marks for f in found if f.kind == "badge"}
    assert near.mark in badges["1111"]
    assert surer.mark not in badges["1111"]
    assert near.mark not in badges["2222"]


def test_published_values_are_marked() -> None:
    """Separators and case do not matter, for the file's values are letters and digits alone."""
    published = Published("own.txt", frozenset({"bdg1234"}))
    found = content(Tally(published=(published,)), ("BDG-1234 and BDG-5678", Place("1")))
    assert {f.evidence: published.mark in f.marks for f in found} == {"1234": True, "5678": False}


@pytest.mark.parametrize("ahead", [0, 1, 40, 500])
def test_a_match_at_the_beginning_of_a_long_text(ahead: int) -> None:
    """Where there is less in front of it than its window is wide, the window begins with the text."""
    number = Pattern(r"\d{5}", MEDIUM)
    some = (InformationType("n", "N", patterns=(number,), keywords=("chart",)),)
    text = "chart " + "x " * ahead + "12345 " + "and so on " * 500
    assert [c for _, _, c in seen(some, text)] == [HIGH if ahead < 40 else MEDIUM]


def test_a_text_that_was_rewritten_tells_of_numbers_alone() -> None:
    """Letters that were made digits for a disguised number make no address of what stands beside it."""
    some = tuple(t for t in load_types(ROOT / "rules") if t.id in ("us-ssn", "ip-address"))
    text = "her SSN is 53b-9O-4399 on host iOs.0.113.203 today"
    assert [(kind, evidence) for kind, evidence, _ in seen(some, text)] == [("us-ssn", "***-**-4399")]


def test_values_that_differ_in_their_marks_are_counted_apart() -> None:
    """The finding that carries the rest carries the rest of its own kind, so that rules count right."""
    many = " ".join(f"BDG-{n}" for n in range(1000, 1000 + 2 * MAX_FINDINGS))
    found = content(Tally(), (many, Place("1")), ("BDG-9999", Place("2", "attachment")))
    assert sum(f.count for f in found if "body" in f.marks) == 2 * MAX_FINDINGS
    assert sum(f.count for f in found if "attachment" in f.marks) == 1
    assert len([f for f in found if "body" in f.marks]) == MAX_FINDINGS


def _keys(model: type[BaseModel]) -> set[str]:
    """All keys that may be written in a file of this shape, sub-keys included."""
    found = set(model.model_fields)
    for name in model.model_json_schema().get("$defs", {}).values():
        found |= set(name.get("properties", {}))
    return found


def test_every_key_and_validator_of_a_type_is_described() -> None:
    """What a type's file may say stands in docs/rules.md."""
    text = (ROOT / "docs" / "rules.md").read_text("utf-8").partition("## Information types")[2]
    told = set(re.findall(r"`([a-z][a-z_-]*)`", text)) | {"id", "it", "text", "expect", "count"}
    assert _keys(types._TypeFile) - told == set()
    assert types.VALIDATORS - told == set()


def test_shipped_types_have_cases_on_both_sides() -> None:
    """At least four that hit and three near misses in each file."""
    few = {t.id for t in load_types(ROOT / "rules") if sum(c.count > 0 for c in t.cases) < 4}
    few |= {t.id for t in load_types(ROOT / "rules") if sum(c.count == 0 for c in t.cases) < 3}
    assert few <= {"confidential-marking"}


@given(st.lists(st.sampled_from((b" ", b"   ", b" " * 8, b" " * 9, b" " * 30, b"a", b"bc")), max_size=15).map(b"".join))
def test_long_gaps_are_squeezed_and_places_found_again(text: bytes) -> None:
    """No gap is longer than eight spaces, nothing but spaces went, and what is left is found where it stood."""
    found = squeezed(text)
    assert found.text == re.sub(rb" {9,}", b" " * 8, text)
    for offset, octet in enumerate(found.text):
        if octet != 32:
            assert text[found.place(offset)] == octet
