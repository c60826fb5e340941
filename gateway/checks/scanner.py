"""Finds information types in plain text: one Hyperscan database for all of them, then exact checks of what it found.

Takes time linear in the text whatever the text: Hyperscan is an automaton, exact expressions are RE2's on a bounded
window, and exact checks stop after :data:`MAX_CANDIDATES` a message (the rest are counted and reported as such). Keeps
no text and no matched value beyond the message; evidence is redacted. Refuses types that Hyperscan cannot compile.
"""

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

import hyperscan

from gateway.checks.company import gathered, has_near, positions_of, raised
from gateway.checks.databases import Databases
from gateway.checks.disguises import Disguises
from gateway.checks.expressions import Meaning, Source, database_of, has_own_line, sources_of
from gateway.checks.heard import Hit, Words
from gateway.checks.judging import EXACT_WINDOW, Judge, Matter, nearby_of, redacted
from gateway.checks.names import Names, spans_around
from gateway.checks.nearby import Spots
from gateway.checks.tally import Place, Sighting, Tally
from gateway.checks.validators import DISGUISED
from gateway.checks.widths import longest
from gateway.errors import ConfigError, ConfigErrors
from gateway.model.finding import Confidence, Finding
from gateway.policy.types import InformationType

__all__ = ["MAX_CANDIDATES", "Scanner", "Tally", "types_digest"]

MAX_CANDIDATES = 200_000
"""Candidates a message that are checked exactly (some 5 µs each; a message small enough to be inspected on the event
loop cannot hold many)."""

_SEAM = b"\0"
"""Between pieces of a text that are searched as one; stands in no text."""


class _Hits:
    """Collects what one scan finds. ``room``: candidates that may still be checked."""

    __slots__ = ("found", "room", "surplus", "text")

    def __init__(self, room: int, text: Matter) -> None:
        self.room, self.text = room, text
        self.found: list[Hit] = []
        self.surplus = 0


class _Database:
    """Expressions, compiled together, and what they mean."""

    def __init__(self, meanings: Mapping[Source, Sequence[Meaning]], databases: Databases) -> None:
        """Compile. Raises :class:`hyperscan.error`."""
        self.meanings = [tuple(same) for same in meanings.values()]
        self._database = database_of(list(meanings), range(len(meanings)), databases) if meanings else None

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


class _Needing(_Database):
    """The expressions of one type that count only with a keyword near by, looked for only where one is."""

    def __init__(self, meanings: Mapping[Source, Sequence[Meaning]], window: int, databases: Databases) -> None:
        """``window``: characters in which a keyword is near. Raises :class:`hyperscan.error`."""
        super().__init__(meanings, databases)
        widths = [longest(source.expression) for source in meanings]
        self._longest = max((w for w in widths if w is not None), default=0) if None not in widths else None
        self._window = window

    def scan_near(self, data: bytes, spots: Spots | None, hits: _Hits) -> None:
        """Add what stands near a keyword, and perhaps more. ``spots``: where they are; None: somewhere."""
        pieces = self._pieces(spots, len(data)) if spots is not None and self._longest is not None else None
        if pieces is None:
            self.scan(data, hits)
            return
        assert self._longest is not None
        some = _Hits(hits.room - len(hits.found), hits.text)
        self.scan(_SEAM.join([data[first:last] for first, last in pieces]), some)
        hits.surplus += some.surplus
        begins = [0]
        for first, last in pieces:
            begins.append(begins[-1] + last - first + len(_SEAM))
        for meaning, start, end in some.found:
            n = bisect_right(begins, start) - 1
            first, last = pieces[n]
            shift = first - begins[n]
            # What is seen too near a cut may begin before it, or end behind it, or be none there.
            if (not first or end + shift > first + self._longest) and (last == len(data) or end + shift < last - 1):
                hits.found.append((meaning, start + shift, end + shift))

    def _pieces(self, spots: Spots, size: int) -> list[tuple[int, int]] | None:
        """What has to be looked at for what is near the keywords; None: most of the text."""
        assert self._longest is not None
        around = self._window + self._longest + 2
        pieces: list[tuple[int, int]] = []
        begin = end = looked = 0
        for start, stop in zip(spots.starts, spots.ends, strict=True):
            first, last = max(0, stop - around - EXACT_WINDOW), min(size, start + around)
            if first > end or not pieces:
                if pieces:
                    pieces[-1] = (begin, end)
                    looked += end - begin
                begin, end = first, last
                pieces.append((begin, end))
            else:
                begin, end = min(begin, first), max(end, last)
        pieces[-1:] = [(begin, end)]
        return pieces if 2 * (looked + end - begin) < size else None


def _needs_keyword(meaning: Meaning) -> bool:
    return meaning.pattern is not None and meaning.pattern.needs_keyword


def _rest(meanings: Mapping[Source, Sequence[Meaning]], alone: bool) -> dict[Source, list[Meaning]]:
    """What is looked for in every text, folded words aside. ``alone``: that with a line of its own."""
    kept = {
        s: [m for m in same if not _needs_keyword(m) and has_own_line(m.pattern) is alone]
        for s, same in meanings.items()
        if not s.folded
    }
    return {source: same for source, same in kept.items() if same}


def _needing(meanings: Mapping[Source, Sequence[Meaning]]) -> dict[int, dict[Source, list[Meaning]]]:
    """By type, what is looked for only in texts that hold one of its keywords."""
    found: dict[int, dict[Source, list[Meaning]]] = {}
    for source, same in meanings.items():
        for meaning in same:
            if _needs_keyword(meaning):
                found.setdefault(meaning.type_, {}).setdefault(source, []).append(meaning)
    return found


class Scanner:
    """The compiled form of some information types. One a process and thread."""

    def __init__(self, types: Sequence[InformationType], ready: Mapping[bytes, bytes] | None = None) -> None:
        """Compile. Raises :class:`ConfigErrors` that name the file of each type that cannot be compiled.

        ``ready``: :attr:`compiled` of such a scanner in another process on this machine.
        """
        self.types = tuple(types)
        self._databases = databases = Databases(ready)
        self.digest = types_digest(self.types)
        meanings: dict[Source, list[Meaning]] = {}
        for index, type_ in enumerate(self.types):
            for source, meaning in sources_of(index, type_):
                meanings.setdefault(source, []).append(meaning)
        try:
            self._words = Words({s: m for s, m in meanings.items() if s.folded}, databases)
            self._expressions = _Database(_rest(meanings, alone=False), databases)
            # a hundred times as fast as among the others
            self._alone = _Database(_rest(meanings, alone=True), databases)
            self._named = {
                n: _Needing(some, self.types[n].keyword_window, databases) for n, some in _needing(meanings).items()
            }
        except hyperscan.error as error:
            errors = self._guilty(meanings)
            raise ConfigErrors(errors or [ConfigError(f"information types cannot be compiled: {error}")]) from error
        self._nearby = [nearby_of(t) for t in self.types]
        self._places = {type_.id: index for index, type_ in enumerate(self.types)}
        self._names = {n: Names(t.names) for n, t in enumerate(self.types) if t.names is not None}
        self.names = frozenset(self.types[n].id for n in self._names)
        """Types that are looked for where they are asked for or needed, since that takes long."""
        self._together = self._types_that_wait()
        self._together_set = frozenset(self._together)
        self._disguises = Disguises(databases)
        self._numbers = frozenset(
            n for n, t in enumerate(self.types) if any(p.validator in DISGUISED for p in t.patterns)
        )

    @property
    def compiled(self) -> dict[bytes, bytes]:
        """What took the time, for a scanner of the same types in another process on this machine."""
        return self._databases.serialized()

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
                database_of([source], [0])
            except hyperscan.error as error:
                detail = f"«{meaning.written}» cannot be compiled by Hyperscan: {error}"
                errors.append(ConfigError(detail, f"types/{self.types[meaning.type_].id}.yaml"))
        return errors

    def scan(self, data: bytes, part: str | Place, tally: Tally, candidates: int = MAX_CANDIDATES) -> None:
        """Add what stands in one text. ``data``: plain UTF-8 (:mod:`gateway.checks.plain`); ``part``: where it is."""
        place = Place(part) if isinstance(part, str) else part
        named = self._scan(data, place, tally, candidates)
        if not self._numbers:
            return
        for piece, shift in self._disguises.pieces(data, told=not self._numbers.isdisjoint(named)):
            self._scan(piece, place._replace(again=True, shift=shift), tally, candidates, self._numbers)

    def _scan(
        self, data: bytes, place: Place, tally: Tally, candidates: int, counted: frozenset[int] | None = None
    ) -> set[int]:
        """Add what stands in the text as it is written. Returns the types of which a keyword stands in it.

        ``counted``: the types that count (None: all); in a text that was rewritten others are an accident.
        """
        room = candidates - tally.checked
        heard = self._words.heard(data, room)
        words = heard.listed
        text = Matter(data, heard, place, heard.named, set())
        hits = _Hits(room - len(words), text)
        hits.surplus = heard.surplus
        self._expressions.scan(data, hits)
        self._alone.scan(data, hits)
        for index in sorted(text.named):
            if index in self._named:
                folds = self._nearby[index].keywords.seen_folded
                self._named[index].scan_near(data, heard.spots(index) if folds else None, hits)
        tally.checked += len(words) + len(hits.found)
        tally.unchecked += hits.surplus
        tally.texts += 1
        if words or hits.found or (tally.names and counted is None):
            self._judge(words, hits.found, text, tally, counted)
        return text.named

    def _judge(
        self, words: list[Hit], hits: list[Hit], text: Matter, tally: Tally, counted: frozenset[int] | None
    ) -> None:
        waiting = self._waiting(tally)
        later: dict[int, list[Sighting]] = {}
        judge = Judge(self.types, self._nearby, text, hits)
        for sightings in (judge.words(words), judge.patterns(tally, waiting)):
            for sighting in sightings:
                if sighting.type_ in waiting:
                    later.setdefault(sighting.type_, []).append(sighting)
                elif counted is None or sighting.type_ in counted:
                    tally.note(sighting, text.place)
        for sighting in self._persons(later, text, tally) if counted is None else ():
            if sighting.type_ in waiting:
                later.setdefault(sighting.type_, []).append(sighting)
            else:
                tally.note(sighting, text.place)
        if later:
            self._settle(later, text.place, tally, counted)

    def _persons(self, later: Mapping[int, list[Sighting]], text: Matter, tally: Tally) -> list[Sighting]:
        """Names of persons: in the whole text when they are asked for, else near sightings that need one."""
        found = []
        for index, names in self._names.items():
            redaction = self.types[index].redaction
            spans, least = self._where_needed(index, later, text.data, tally)
            for first, last in spans:
                for name in names.find(text.data, first, last, least):
                    key = text.data[name.start : name.end].decode("utf-8", "replace").casefold()
                    found.append(Sighting(index, key, name.confidence, name.start, name.end, redacted(redaction, key)))
        return found

    def _where_needed(
        self, index: int, later: Mapping[int, list[Sighting]], data: bytes, tally: Tally
    ) -> tuple[list[tuple[int, int]], Confidence]:
        """Where a type must be looked for that others have as companion, or that a rule wants near another; how sure.

        A match that is as sure as can be needs no companion.
        """
        if tally.names:
            return [(0, len(data))], Confidence.LOW
        id_ = self.types[index].id
        asked = [q for q in tally.near if q.other == id_]
        places = [
            (s.start, s.end, q.within)
            for q in asked for a in q.types if a in self._places for s in later.get(self._places[a], ())
        ]  # fmt: skip
        needing = [start for start, _, _ in places]
        least = {q.confidence for q in asked}
        for other, sightings in later.items():
            companions = self.types[other].companions
            if companions is not None and id_ in companions.types:
                least.add(companions.confidence)
                within = companions.unsure_within or companions.within
                places += [(s.start, s.end, within) for s in sightings]
                needing += [s.start for s in sightings if companions.required or s.confidence < Confidence.HIGH]
        needing.sort()
        spans = spans_around(data, places) if needing else []
        held = [(first, last) for first, last in spans if bisect_left(needing, first) < bisect_right(needing, last)]
        return held, min(least, default=Confidence.LOW)

    def _waiting(self, tally: Tally) -> frozenset[int]:
        """Types whose sightings are settled in the end: those that need each other, those whose places are asked."""
        if not tally.near:
            return self._together_set
        asked = {id_ for question in tally.near for id_ in (*question.types, question.other)}
        return self._together_set | {self._places[id_] for id_ in asked if id_ in self._places}

    def _settle(
        self, later: dict[int, list[Sighting]], place: Place, tally: Tally, counted: frozenset[int] | None
    ) -> None:
        """Judge the types that need each other, now that the whole text has been seen."""
        for index in self._together:
            if index in later:
                later[index] = self._accompanied(index, later)
        asked = [
            (question, positions_of(s for s in later.get(self._places.get(question.other, -1), ())
                                  if s.confidence >= question.confidence))
            for question in tally.near
        ]  # fmt: skip
        for index, sightings in later.items():
            if counted is not None and index not in counted:
                continue
            mine = [(q, other) for q, other in asked if self.types[index].id in q.types]
            for one in sightings:
                tally.note(one, place, tuple(q.mark for q, other in mine if has_near(other, one, q.within)))

    def _accompanied(self, index: int, later: Mapping[int, list[Sighting]]) -> list[Sighting]:
        """Those that others of their kind and their companions let stand; companions are settled already."""
        type_, sightings = self.types[index], later[index]
        if type_.gather is not None:
            sightings = gathered(sightings, type_.gather)
        if type_.companions is None:
            return sightings
        companions, kept = type_.companions, []
        reaches = [(companions.confidence, companions.unsure_within or companions.within)]
        reaches += [(Confidence.HIGH, companions.within)] if companions.unsure_within else []
        there = [some for id_ in companions.types if (some := later.get(self._places.get(id_, -1)))]
        others = [
            (positions_of(s for s in some if s.confidence >= sure), far) for some in there for sure, far in reaches
        ]
        for one in sightings:
            if any(has_near(other, one, far) for other, far in others):
                kept.append(one._replace(confidence=raised(one.confidence, companions.steps)))
            elif not companions.required:
                kept.append(one)
        return kept

    def findings(self, tally: Tally, asked: frozenset[str] | None = None) -> list[Finding]:
        """What the tally says, by type and falling confidence; ``asked`` limits the types (None: all)."""
        if not tally.seen:
            return []
        return tally.findings({n: t.id for n, t in enumerate(self.types) if asked is None or t.id in asked})


def types_digest(types: Sequence[InformationType]) -> str:
    """A name for a set of definitions: the same in every process, another when any of them changes."""
    return hashlib.sha256(repr(tuple(types)).encode()).hexdigest()
