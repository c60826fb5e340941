"""Finds information types in plain text: one Hyperscan database for all of them, then exact checks of what it found.

Takes time linear in the text whatever the text: Hyperscan is an automaton, exact expressions are RE2's on a bounded
window, and exact checks stop after :data:`MAX_CANDIDATES` a message (the rest are counted and reported as such). Keeps
no text and no matched value beyond the message; evidence is redacted. Refuses types that Hyperscan cannot compile.
"""

import hashlib
import unicodedata
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import hyperscan

from gateway.checks.expressions import (
    Meaning,
    Source,
    Spoken,
    before,
    continues,
    folded,
    place_of,
    sources_of,
)
from gateway.checks.tally import Place, Sighting, Tally
from gateway.checks.validators import NUMERIC, VALIDATORS, address_of, digits_of
from gateway.errors import ConfigError, ConfigErrors
from gateway.model.finding import Confidence, Finding
from gateway.policy.types import Gather, InformationType, Pattern

__all__ = ["MAX_CANDIDATES", "Scanner", "Tally", "types_digest"]

MAX_CANDIDATES = 200_000
"""Candidates a message that are checked exactly (some 10 µs each; a message small enough to be inspected on the event
loop cannot hold many)."""
EXACT_WINDOW = 400
"""Octets in which an exact expression must end."""
_UNDERSCORE = 0x5F
"""No word boundary to Hyperscan, but one to people who name files."""
_DIRECTLY = 24
"""Characters between a keyword and the match that it introduces."""
_EXCLUDING = 16
_FOLDED_END = 2
"""Folded text has a space in front, and a word is seen to end with the space behind it."""
_LINK = 1000
"""Octets of a web address that are looked back over."""


class _Text(NamedTuple):
    """The text that is being looked at, and what is known of it as a whole."""

    data: bytes
    place: Place
    named: set[int]
    """Types of which a keyword stands somewhere."""
    excluded: set[int]
    """Types of which an exclusion does."""


_Hit = tuple[tuple[Meaning, ...], int, int]
"""What was found, and where it begins and ends."""


class _Hits:
    """Collects what one scan finds. ``room``: candidates that may still be checked."""

    __slots__ = ("found", "room", "surplus", "text")

    def __init__(self, room: int, text: _Text) -> None:
        self.room, self.text = room, text
        self.found: list[_Hit] = []
        self.surplus = 0


class _Database:
    """Expressions, compiled together, and what they mean."""

    def __init__(self, meanings: Mapping[Source, Sequence[Meaning]]) -> None:
        """Compile. Raises :class:`hyperscan.error`."""
        self.meanings = [tuple(same) for same in meanings.values()]
        self._database = _compiled(list(meanings)) if meanings else None

    def scan(self, data: bytes, hits: _Hits) -> None:
        """Add what stands in ``data``."""
        if self._database is None:
            return
        meanings, found, text, room = self.meanings, hits.found, hits.text, hits.room

        def on_match(number: int, start: int, end: int, _flags: int, _context: Any) -> None:
            meaning = meanings[number]
            if meaning[0].presence:
                for each in meaning:
                    (text.excluded if each.exclusion else text.named).add(each.type_)
            elif len(found) < room:
                found.append((meaning, start, end))
            else:
                hits.surplus += 1

        self._database.scan(data, match_event_handler=on_match)


def _needs_keyword(meaning: Meaning) -> bool:
    return meaning.pattern is not None and meaning.pattern.needs_keyword


def _rest(meanings: Mapping[Source, Sequence[Meaning]]) -> dict[Source, list[Meaning]]:
    """What is looked for in every text, folded words aside."""
    kept = {s: [m for m in same if not _needs_keyword(m)] for s, same in meanings.items() if not s.folded}
    return {source: same for source, same in kept.items() if same}


def _needing(meanings: Mapping[Source, Sequence[Meaning]]) -> dict[int, dict[Source, list[Meaning]]]:
    """By type, what is looked for only in texts that hold one of its keywords."""
    found: dict[int, dict[Source, list[Meaning]]] = {}
    for source, same in meanings.items():
        for meaning in same:
            if _needs_keyword(meaning):
                found.setdefault(meaning.type_, {}).setdefault(source, []).append(meaning)
    return found


def _compiled(sources: Sequence[Source]) -> hyperscan.Database:
    database = hyperscan.Database()
    database.compile(
        expressions=[source.expression for source in sources],
        ids=list(range(len(sources))),
        elements=len(sources),
        flags=[source.flags for source in sources],
    )
    return database


class Scanner:
    """The compiled form of some information types. One a process and thread."""

    def __init__(self, types: Sequence[InformationType]) -> None:
        """Compile. Raises :class:`ConfigErrors` that name the file of each type that cannot be compiled."""
        self.types = tuple(types)
        self.digest = types_digest(self.types)
        meanings: dict[Source, list[Meaning]] = {}
        for index, type_ in enumerate(self.types):
            for source, meaning in sources_of(index, type_):
                meanings.setdefault(source, []).append(meaning)
        try:
            self._words = _Database({s: m for s, m in meanings.items() if s.folded})
            self._expressions = _Database(_rest(meanings))
            self._named = {n: _Database(some) for n, some in _needing(meanings).items()}
        except hyperscan.error as error:
            errors = self._guilty(meanings)
            raise ConfigErrors(errors or [ConfigError(f"information types cannot be compiled: {error}")]) from error
        self._keywords = [Spoken(t.keywords) if t.keywords else None for t in self.types]
        self._exclusions = [Spoken(t.exclusions) if t.exclusions else None for t in self.types]
        self._places = {type_.id: index for index, type_ in enumerate(self.types)}
        self._together = self._types_that_wait()
        self._together_set = frozenset(self._together)

    def _types_that_wait(self) -> tuple[int, ...]:
        """Types whose sightings are judged only when the whole text has been seen, companions before who needs them."""
        ordered: dict[int, None] = {}

        def add(index: int) -> None:
            companions = self.types[index].companions
            for id_ in companions.types if companions else ():
                if id_ in self._places and self._places[id_] not in ordered:
                    add(self._places[id_])
            ordered[index] = None

        for index, type_ in enumerate(self.types):
            if type_.gather or type_.companions:
                add(index)
        return tuple(ordered)

    def _guilty(self, meanings: Mapping[Source, Sequence[Meaning]]) -> list[ConfigError]:
        errors = []
        for source, (meaning, *_) in meanings.items():
            try:
                _compiled([source])
            except hyperscan.error as error:
                detail = f"«{meaning.written}» cannot be compiled by Hyperscan: {error}"
                errors.append(ConfigError(detail, f"types/{self.types[meaning.type_].id}.yaml"))
        return errors

    def scan(self, data: bytes, part: str | Place, tally: Tally, candidates: int = MAX_CANDIDATES) -> None:
        """Add what stands in one text. ``data``: plain UTF-8 (:mod:`gateway.checks.plain`); ``part``: where it is."""
        text = _Text(data, Place(part) if isinstance(part, str) else part, set(), set())
        hits = _Hits(candidates - tally.checked, text)
        self._words.scan(folded(data), hits)
        words, hits.found = hits.found, []
        hits.room -= len(words)
        self._expressions.scan(data, hits)
        for index in text.named:
            if index in self._named:
                self._named[index].scan(data, hits)
        tally.checked += len(words) + len(hits.found)
        tally.unchecked += hits.surplus
        tally.texts += 1
        if words or hits.found:
            self._judge(words, hits.found, text, tally)

    def _judge(self, words: "list[_Hit]", hits: "list[_Hit]", text: _Text, tally: Tally) -> None:
        waiting = self._waiting(tally)
        later: dict[int, list[Sighting]] = {}
        for sighting in self._sightings(words, hits, text, waiting, tally):
            if sighting.type_ in waiting:
                later.setdefault(sighting.type_, []).append(sighting)
            else:
                tally.note(sighting, text.place)
        if later:
            self._settle(later, text.place, tally)

    def _waiting(self, tally: Tally) -> frozenset[int]:
        """Types whose sightings are settled in the end: those that need each other, those whose places are asked."""
        if not tally.near:
            return self._together_set
        asked = {id_ for question in tally.near for id_ in (*question.types, question.other)}
        return self._together_set | {self._places[id_] for id_ in asked if id_ in self._places}

    def _sightings(
        self, words: "list[_Hit]", hits: "list[_Hit]", text: _Text, waiting: frozenset[int], tally: Tally
    ) -> Iterator[Sighting]:
        """What of all that was found holds."""
        for meanings, _, end in words:
            for meaning in meanings:
                found = _word(meaning, text.data, end - _FOLDED_END + meaning.tail)
                if found is not None:
                    yield found
        for meanings, start, end in hits:
            for meaning in meanings:
                index, pattern = meaning.type_, meaning.pattern
                if pattern is None:
                    found = _word(meaning, text.data, end)
                else:
                    known = None if index in waiting else tally
                    found = self._pattern(meaning, pattern, text, start, end, known)
                if found is not None:
                    yield found

    def _pattern(
        self, meaning: Meaning, pattern: Pattern, text: _Text, start: int, end: int, tally: Tally | None
    ) -> Sighting | None:
        """The sighting if it is one. ``tally``: one that knows its value surely already has nothing to decide."""
        index = meaning.type_
        extent = self._extent(meaning, pattern, text, start, end)
        if extent is None:
            return None
        value, start, end = extent
        key = digits_of(value) if pattern.validator in NUMERIC else value.decode("utf-8", "replace").casefold()
        if tally is not None:
            known = tally.seen.get(index, {}).get(key)
            if known is not None and known.confidence >= (
                Confidence.HIGH if index in text.named else pattern.confidence
            ):
                tally.repeat(known, end, text.place)
                return None
        if pattern.validator and not self._valid(index, pattern.validator, value):
            return None
        confidence = self._confidence(index, pattern, text, start, end)
        if confidence is None:
            return None
        return Sighting(index, key, confidence, start, end, _redacted(self.types[index].redaction, key))

    def _extent(
        self, meaning: Meaning, pattern: Pattern, text: _Text, start: int, end: int
    ) -> tuple[bytes, int, int] | None:
        """The value and where the match begins and ends; None when its edges or its words say that it is none."""
        data = text.data
        if data[start] == _UNDERSCORE:
            start += 1
        if pattern.exact:
            found = meaning.exact.match(data[start : start + EXACT_WINDOW])
            if found is None:
                return None
            value, end = bytes(found.group(meaning.exact.groups and 1)), start + found.end()
        else:
            end -= data[end - 1] == _UNDERSCORE
            value = data[start:end]
        ahead = data[max(0, start - 2) : start][::-1]
        if (
            (pattern.edges != "start" and continues(data[end : end + 2], pattern.edges))
            or (continues(ahead, pattern.edges) and not self._labelled(meaning.type_, text, start))
            or (meaning.never is not None and meaning.never.fullmatch(value))
        ):
            return None
        return value, start, end

    def _valid(self, index: int, validator: str, value: bytes) -> bool:
        type_ = self.types[index]
        if validator != "ip-address" or not (type_.inside or type_.outside):
            return VALIDATORS[validator](value)
        address = address_of(value)
        if address is None or address.is_unspecified:
            return False
        if type_.inside and not any(address in network for network in type_.inside):
            return False
        return not any(address in network for network in type_.outside)

    def _labelled(self, index: int, text: _Text, start: int) -> bool:
        """True when what is joined to a match by a dash is a keyword: «SSN-536-90-4399»."""
        keywords = self._keywords[index]
        if keywords is None or index not in text.named or text.data[start - 1 : start] != b"-":
            return False
        ahead, ends = keywords.ends(text.data[max(0, start - self.types[index].keyword_window) : start - 1])
        return len(ahead) in ends

    def _confidence(self, index: int, pattern: Pattern, text: _Text, start: int, end: int) -> Confidence | None:
        """How sure, from the words around; None: not a match."""
        type_, keywords, exclusions = self.types[index], self._keywords[index], self._exclusions[index]
        named, excluded = index in text.named, index in text.excluded
        introduced = near = False
        ahead, linked = b"", False
        if named or excluded:
            first = max(0, start - type_.keyword_window)
            link = _link_before(text.data, start) if text.data[start:end].isdigit() else -1
            linked = link >= 0
            ahead = text.data[max(first, link) : start]
        if named and keywords is not None:
            near, introduced = before(keywords, ahead, _DIRECTLY)
            if not near and not linked:
                near = bool(keywords.ends(text.data[end : end + type_.keyword_window])[1])
        if (pattern.needs_keyword and not near) or (pattern.introduced and not introduced):
            return None
        if (
            excluded
            and (pattern.introduced or not introduced)
            and exclusions is not None
            and before(exclusions, ahead[-_EXCLUDING - 32 :], _EXCLUDING)[1]
        ):
            return pattern.confidence if near and not pattern.needs_keyword else None
        return _raised(pattern.confidence, (type_.keyword_boost if near else 0) + introduced)

    def _settle(self, later: dict[int, list[Sighting]], place: Place, tally: Tally) -> None:
        """Judge the types that need each other, now that the whole text has been seen."""
        positions: dict[int, _Positions] = {}
        for index in self._together:
            if index in later:
                later[index] = self._accompanied(index, later[index], positions)
                positions[index] = _positions(later[index])
        asked = [
            (question, _positions(s for s in later.get(self._places.get(question.other, -1), ())
                                  if s.confidence >= question.confidence))
            for question in tally.near
        ]  # fmt: skip
        for index, sightings in later.items():
            mine = [(q, other) for q, other in asked if self.types[index].id in q.types]
            for one in sightings:
                tally.note(one, place, tuple(q.mark for q, other in mine if _has_near(other, one, q.within)))

    def _accompanied(self, index: int, sightings: list[Sighting], positions: "dict[int, _Positions]") -> list[Sighting]:
        """Those that others of their kind and their companions let stand. ``positions``: where companions are."""
        type_ = self.types[index]
        if type_.gather is not None:
            sightings = _gathered(sightings, type_.gather)
        if type_.companions is None:
            return sightings
        companions, kept = type_.companions, []
        others = [positions[self._places[id_]] for id_ in companions.types if self._places.get(id_) in positions]
        for one in sightings:
            if any(_has_near(other, one, companions.within) for other in others):
                kept.append(one._replace(confidence=_raised(one.confidence, companions.steps)))
            elif not companions.required:
                kept.append(one)
        return kept

    def findings(self, tally: Tally, asked: frozenset[str] | None = None) -> list[Finding]:
        """What the tally says, by type and falling confidence; ``asked`` limits the types (None: all)."""
        return tally.findings({n: t.id for n, t in enumerate(self.types) if asked is None or t.id in asked})


def types_digest(types: Sequence[InformationType]) -> str:
    """A name for a set of definitions: the same in every process, another when any of them changes."""
    return hashlib.sha256(repr(tuple(types)).encode()).hexdigest()


def _link_before(data: bytes, start: int) -> int:
    """Where the web address begins whose part a run of digits is, -1 when it is in none.

    Addresses in newsletters are full of numbers: the words around them say nothing of these.
    """
    piece = data[max(0, start - _LINK) : start]
    cut = max(piece.rfind(c) for c in (b" ", b"\n", b"\t", b"<", b'"'))
    at = piece.find(b"://", cut + 1)
    return start - len(piece) + cut + 1 if at >= 0 else -1


def _word(meaning: Meaning, data: bytes, end: int) -> Sighting | None:
    """A word that was seen to end there. Its value is the word as its type's file writes it."""
    where = place_of(meaning, data, end)
    if where is None:
        return None
    shown = unicodedata.normalize("NFC", meaning.shown)
    return Sighting(meaning.type_, shown.casefold(), meaning.confidence, *where, shown)


def _redacted(form: str, key: str) -> str:
    """Evidence: ``{last4}`` is the value's last four letters or digits."""
    if "{last4}" not in form:
        return form
    return form.replace("{last4}", "".join(c for c in key[-12:] if c.isalnum())[-4:])


def _raised(confidence: Confidence, steps: int) -> Confidence:
    return Confidence(min(Confidence.HIGH, confidence + steps))


class _Positions(NamedTuple):
    """Where a type was seen: starts in order, and for each the value."""

    starts: list[int]
    keys: list[tuple[int, int]]
    """Start and end, by start."""
    longest: int


def _positions(sightings: Iterable[Sighting]) -> _Positions:
    spans = sorted((s.start, s.end) for s in sightings)
    return _Positions([s for s, _ in spans], spans, max((e - s for s, e in spans), default=0))


def _has_near(others: _Positions, one: Sighting, within: int) -> bool:
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


def _gathered(sightings: list[Sighting], gather: Gather) -> list[Sighting]:
    """Each a step surer for ``distinct`` different ones around it, two for twice as many. Linear: two pointers.

    A phrase within a longer one («trade secret information») is not another one.
    """
    ordered = _longest(sightings)
    counts: dict[str, int] = {}
    first = last = 0
    raised = []
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
        raised.append(one._replace(confidence=_raised(one.confidence, min(2, len(counts) // gather.distinct))))
    return raised


def _longest(sightings: list[Sighting]) -> list[Sighting]:
    """By start, without those that lie within another one."""
    kept: list[Sighting] = []
    for one in sorted(sightings, key=lambda s: (s.start, -s.end)):
        if not kept or one.end > kept[-1].end:
            kept.append(one)
    return kept
