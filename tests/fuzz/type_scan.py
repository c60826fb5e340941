"""Any text under all shipped information types: offsets, redaction, limits, and scans that must agree."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from zlib import crc32

from gateway.checks.plain import plain
from gateway.checks.scanner import Scanner, Tally
from gateway.checks.tally import Place, Seen, Sighting
from gateway.model.finding import Confidence, Finding, Near, Published
from gateway.policy.types import InformationType, load_types
from tests.fuzz.bounds import in_time, stretched

LONGEST = 2048
RULES = Path(__file__).resolve().parents[2] / "rules"
ALONE = frozenset({"us-ssn", "payment-card", "password", "ip-address"})
_NEAR = (
    Near(frozenset({"us-ssn", "date-of-birth", "profanity"}), "person-name", 200, Confidence.LOW),
    Near(frozenset({"payment-card", "person-name"}), "us-ssn", 1, Confidence.MEDIUM),
)
_PUBLISHED = (Published("numbers.txt", frozenset({"536904399", "4111111111111111"})),)
_PLACE = Place("1")


@cache
def types() -> tuple[InformationType, ...]:
    """All that the product ships."""
    return load_types(RULES)


def _ready(some: tuple[InformationType, ...]) -> Scanner:
    """A scanner that has compiled all that it compiles when it is first needed."""
    scanner = Scanner(some)
    for type_ in some:
        for case in type_.cases:
            for text in (case.text, case.text + " and so on" * 200):
                scanner.scan(plain(text), "1", Tally())
    return scanner


@cache
def _all() -> Scanner:
    return _ready(types())


@cache
def _alone(index: int) -> Scanner:
    return _ready((types()[index],))


def _tokens() -> tuple[bytes, ...]:
    words = [word for type_ in types() for word in (*type_.keywords[:6], *type_.words[:3], *type_.exclusions[:3])]
    forms = [
        "536-90-4399",
        "4111 1111 1111 1111",
        "900-70-0000",
        "10.1.2.3",
        "GB82WEST12345698765432",
        "\n",
        " - ",
        "_",
    ]
    return tuple(dict.fromkeys(word.encode()[:60] for word in (*forms, *words)))


TOKENS = _tokens()


@dataclass(slots=True)
class _Watching(Tally):
    """A tally that looks at each sighting."""

    scanner: Scanner | None = None
    size: int = 0
    spans: list[tuple[int, int]] = field(default_factory=list)

    def note(self, sighting: Sighting, place: Place, marks: tuple[str, ...] = ()) -> None:
        """Also: where it stands, and what it would show."""
        assert 0 <= sighting.start < sighting.end, "a sighting without octets"
        assert sighting.start + place.shift < self.size, "a sighting outside its text"
        assert self.scanner is not None
        _redacted(sighting, self.scanner.types[sighting.type_])
        Tally.note(self, sighting, place, marks)

    def repeat(self, known: Seen, end: int, place: Place) -> None:
        """Also: where it ends."""
        assert end > 0
        Tally.repeat(self, known, end, place)


def _redacted(sighting: Sighting, type_: InformationType) -> None:
    """Evidence shows no more of the value than the type's form allows; a listed word shows itself."""
    evidence = sighting.evidence
    assert evidence.isprintable()
    listed = (*type_.words, *(word for row in type_.word_lists for word in row.words))
    if evidence.casefold() == sighting.key and any(word.casefold() == sighting.key for word in listed):
        return
    form = type_.redaction
    shown = sum(map(str.isalnum, evidence)) - sum(map(str.isalnum, form.replace("{last4}", "")))
    assert shown <= (4 if "{last4}" in form else 0), "evidence shows more than its form allows"
    digits = sum(map(str.isdigit, evidence)) - sum(map(str.isdigit, form.replace("{last4}", "")))
    assert digits <= (4 if "{last4}" in form else 0)


def check(data: bytes) -> None:
    """Raise AssertionError (or anything else) when a promise is broken."""
    text = plain(data.decode("utf-8", "replace"))
    _all(), _alone(_chosen(text))  # compiled before the clock runs
    with in_time(40 * len(text)):
        whole, tally = _scan(_all(), text)
        _findings(whole, tally, text)
        _capped(text, tally)
        _one_type(text, tally)
        _questions(text, tally)
        _padded(text, tally)
        _twice(text, tally)
    stretched(text, lambda long: _scan(_all(), long), many=1024, ease=1)


def _scan(scanner: Scanner, text: bytes, tally: _Watching | None = None) -> tuple[list[Finding], _Watching]:
    tally = tally or _Watching()
    tally.scanner, tally.size = scanner, len(text)
    scanner.scan(text, _PLACE, tally)
    return scanner.findings(tally), tally


def _surely(tally: Tally, scanner: Scanner) -> dict[str, dict[str, Confidence]]:
    """By type, the distinct values and how sure each is."""
    return {scanner.types[n].id: {key: one.confidence for key, one in seen.items()} for n, seen in tally.seen.items()}


def _written(tally: Tally, index: int) -> dict[str, Confidence]:
    """Values of a type that were seen in the text itself, not only in another form of it."""
    return {key: one.confidence for key, one in tally.seen.get(index, {}).items() if one.times}


def _findings(found: list[Finding], tally: Tally, text: bytes) -> None:
    for one in found:
        assert 0 <= one.offset < len(text)
        assert 1 <= one.count <= one.sightings
        assert (one.part, *one.marks[:1]) == ("1", "body")
    distinct = sum(map(len, tally.seen.values())) + sum(tally.surplus.values())
    assert sum(one.count for one in found) == distinct


def _capped(text: bytes, tally: Tally) -> None:
    """With room for fewer candidates no more than these are checked, the others are counted, none is invented."""
    few = _Watching(scanner=_all(), size=len(text))
    room = tally.checked // 2
    _all().scan(text, _PLACE, few, room)
    assert few.checked <= room
    assert few.checked + few.unchecked == tally.checked + tally.unchecked


def _chosen(text: bytes) -> int:
    """The type that is also looked for alone: one of a few, since each has to be compiled."""
    few = [n for n, type_ in enumerate(types()) if type_.id in ALONE]
    return few[crc32(text) % len(few)]


def _one_type(text: bytes, tally: Tally) -> None:
    """A type that needs no other is seen alike with all the others and alone, where it stands as it is written."""
    index = _chosen(text)
    type_ = types()[index]
    if not type_.companions:
        alone = _scan(_alone(index), text)[1]
        assert _written(alone, 0) == _written(tally, index), f"{type_.id} alone differs"


def _questions(text: bytes, tally: Tally) -> None:
    """Marks are put on what is found and change nothing of it."""
    asked = _scan(_all(), text, _Watching(_NEAR, _PUBLISHED))[1]
    assert _surely(asked, _all()) == _surely(tally, _all()), "questions change what is found"


def _padded(text: bytes, tally: Tally) -> None:
    """Empty lines around a text change nothing in it."""
    around = _scan(_all(), b"\n\n\n" + text + b"\n\n\n")[1]
    assert _surely(around, _all()) == _surely(tally, _all()), "empty lines change what is found"


def _twice(text: bytes, tally: Tally) -> None:
    """The same text again has no new value and is as sure; said to be the same text, it is not counted either."""
    before = _surely(tally, _all())
    times = {(n, key): one.times for n, seen in tally.seen.items() for key, one in seen.items()}
    watching = _Watching(seen=tally.seen, scanner=_all(), size=len(text), texts=tally.texts)
    _all().scan(text, Place("1", again=True), watching)
    assert _surely(tally, _all()) == before
    assert {(n, key): one.times for n, seen in tally.seen.items() for key, one in seen.items()} == times


def seeds() -> Iterator[bytes]:
    """Every example of the types' own files."""
    for type_ in types():
        for case in type_.cases:
            yield case.text.encode()
