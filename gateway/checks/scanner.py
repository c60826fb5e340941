"""Finds information types in plain text: one Hyperscan database for all of them, then exact checks of what it found.

Takes time linear in the text whatever the text: Hyperscan is an automaton, and exact checks stop after
:data:`MAX_CANDIDATES` a message (the rest are counted and reported as such). Keeps no text and no matched value beyond
the message; evidence is redacted. Refuses types that Hyperscan cannot compile.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import hyperscan

from gateway.checks.validators import VALIDATORS, digits_of
from gateway.errors import ConfigError, ConfigErrors
from gateway.model.finding import Check, Confidence, Finding
from gateway.policy.types import InformationType, Pattern

MAX_CANDIDATES = 200_000
"""Candidates a message that are checked exactly (some 10 µs each; a message small enough to be inspected on the event
loop cannot hold many)."""
MAX_DISTINCT = 5000
"""Distinct matches a type and message that are told apart; more are counted as if distinct."""
MAX_FINDINGS = 20
"""Findings a type and confidence; the last one carries the count of the rest."""

_PATTERN_FLAGS = hyperscan.HS_FLAG_SOM_LEFTMOST
_PRESENCE_FLAGS = hyperscan.HS_FLAG_CASELESS | hyperscan.HS_FLAG_SINGLEMATCH
_WORD_FLAGS = hyperscan.HS_FLAG_CASELESS
"""Without the start of the match: keeping it makes thousands of words compile for a quarter of a minute."""
_WIDE_WORD_FLAGS = _WORD_FLAGS | hyperscan.HS_FLAG_UTF8
_GAP = 200
"""White space between the words of a phrase that is looked back over."""
_UNDERSCORE = 0x5F
"""No word boundary to Hyperscan, but one to people who name files."""
_DIRECTLY = 24
"""Characters between a keyword and the match that it introduces."""
_EXCLUDING = 16


class _Expression(NamedTuple):
    """What a Hyperscan id stands for."""

    type_: int
    pattern: Pattern | None
    """None: a word or keyword."""
    word: str
    keyword: bool = False
    """True: only its presence is asked, so that texts without it cost nothing more."""
    exclusion: bool = False


class _Best(NamedTuple):
    """The surest sighting of one distinct match."""

    confidence: Confidence
    part: str
    offset: int
    evidence: str


class _Text(NamedTuple):
    """The text that is being looked at, and what is known of it as a whole."""

    data: bytes
    part: str
    named: bool
    """A keyword of the type stands somewhere."""
    excluded: bool
    """An exclusion of the type stands somewhere."""


@dataclass(slots=True)
class Tally:
    """What was seen in one message, distinct matches once."""

    seen: dict[int, dict[str, _Best]] = field(default_factory=dict)
    surplus: dict[tuple[int, Confidence], int] = field(default_factory=dict)
    checked: int = 0
    unchecked: int = 0
    """Candidates beyond :data:`MAX_CANDIDATES`."""


class Scanner:
    """The compiled form of some information types. One a process and thread."""

    def __init__(self, types: Sequence[InformationType]) -> None:
        """Compile. Raises :class:`ConfigErrors` that name the file of each type that cannot be compiled."""
        self.types = tuple(types)
        self.digest = types_digest(self.types)
        written = [row for index, type_ in enumerate(self.types) for row in _expressions_of(index, type_)]
        self._expressions = [expression for expression, _, _ in written]
        self._keywords = [_spoken(t.keywords) for t in self.types]
        self._exclusions = [_spoken(t.exclusions) for t in self.types]
        self._database = self._compile([row[1] for row in written], [row[2] for row in written]) if written else None

    def _compile(self, sources: list[bytes], flags: list[int]) -> hyperscan.Database:
        database = hyperscan.Database()
        try:
            database.compile(expressions=sources, ids=list(range(len(sources))), elements=len(sources), flags=flags)
        except hyperscan.error as error:
            errors = self._guilty(sources, flags)
            raise ConfigErrors(errors or [ConfigError(f"information types cannot be compiled: {error}")]) from error
        return database

    def _guilty(self, sources: list[bytes], flags: list[int]) -> list[ConfigError]:
        errors = []
        for source, flag, expression in zip(sources, flags, self._expressions, strict=True):
            try:
                hyperscan.Database().compile(expressions=[source], ids=[0], elements=1, flags=[flag])
            except hyperscan.error as error:
                written = expression.pattern.regex if expression.pattern else expression.word
                detail = f"«{written}» cannot be compiled by Hyperscan: {error}"
                errors.append(ConfigError(detail, f"types/{self.types[expression.type_].id}.yaml"))
        return errors

    def scan(self, data: bytes, part: str, tally: Tally, candidates: int = MAX_CANDIDATES) -> None:
        """Add what stands in one text. ``data``: plain UTF-8 (:mod:`gateway.checks.plain`); ``part``: its path."""
        if self._database is None:
            return
        hits: list[tuple[_Expression, int, int]] = []
        named: set[int] = set()
        excluded: set[int] = set()
        surplus = 0
        room = candidates - tally.checked
        expressions = self._expressions

        def on_match(number: int, start: int, end: int, _flags: int, _context: Any) -> None:
            nonlocal surplus
            expression = expressions[number]
            if expression.keyword:
                (excluded if expression.exclusion else named).add(expression.type_)
            elif len(hits) < room:
                hits.append((expression, start, end))
            else:
                surplus += 1

        self._database.scan(data, match_event_handler=on_match)
        tally.checked += len(hits)
        tally.unchecked += surplus
        for expression, start, end in hits:
            if expression.pattern is None:
                self._on_word(expression, data, end, part, tally)
            elif expression.type_ in named or not expression.pattern.needs_keyword:
                text = _Text(data, part, expression.type_ in named, expression.type_ in excluded)
                self._on_pattern(expression.type_, expression.pattern, text, start, end, tally)

    def _on_word(self, expression: _Expression, data: bytes, end: int, part: str, tally: Tally) -> None:
        word = expression.word
        start = _start_of(word, data, end)
        if word[0].isalnum() and _is_letter(data[max(0, start - 4) : start].decode("utf-8", "ignore")[-1:]):
            return
        if word[-1].isalnum() and _is_letter(data[end : end + 4].decode("utf-8", "ignore")[:1]):
            return
        confidence = self.types[expression.type_].word_confidence
        word = unicodedata.normalize("NFC", word)
        self._note(tally, expression.type_, word.casefold(), _Best(confidence, part, start, word))

    def _on_pattern(self, index: int, pattern: Pattern, text: "_Text", start: int, end: int, tally: Tally) -> None:
        data = text.data
        if data[start] == _UNDERSCORE:
            start += 1
        if data[end - 1] == _UNDERSCORE:
            end -= 1
        if _continues(data[end : end + 2], pattern.edges):
            return
        before = data[max(0, start - 2) : start][::-1]
        if _continues(before, pattern.edges) and not self._labelled(index, text, start):
            return
        match = data[start:end]
        key = digits_of(match) if pattern.validator else match.decode("ascii", "replace").casefold()
        known = tally.seen.get(index, {}).get(key)
        if known is not None and known.confidence >= (Confidence.HIGH if text.named else pattern.confidence):
            return
        if pattern.validator and not VALIDATORS[pattern.validator](match):
            return
        confidence = self._confidence(index, pattern, text, start, end)
        if confidence is not None:
            last4 = "".join(c for c in key if c.isalnum())[-4:]
            evidence = self.types[index].redaction.replace("{last4}", last4)
            self._note(tally, index, key, _Best(confidence, text.part, start, evidence))

    def _labelled(self, index: int, text: "_Text", start: int) -> bool:
        """True when what is joined to a match by a dash is a keyword: «SSN-536-90-4399»."""
        keywords = self._keywords[index]
        if keywords is None or not text.named or text.data[start - 1 : start] != b"-":
            return False
        before = text.data[max(0, start - self.types[index].keyword_window) : start - 1].decode("utf-8", "ignore")
        return any(found.end() == len(before) for found in keywords.finditer(before))

    def _confidence(self, index: int, pattern: Pattern, text: "_Text", start: int, end: int) -> Confidence | None:
        """How sure, from the words around; None: not a match."""
        type_, keywords, exclusions = self.types[index], self._keywords[index], self._exclusions[index]
        introduced = near = False
        before = ""
        if text.named or text.excluded:
            before = text.data[max(0, start - type_.keyword_window) : start].decode("utf-8", "ignore")
        if text.named and keywords is not None:
            near, introduced = _before(keywords, before, _DIRECTLY)
            if not near:
                after = text.data[end : end + type_.keyword_window].decode("utf-8", "ignore")
                near = bool(keywords.search(after))
        if pattern.needs_keyword and not near:
            return None
        if text.excluded and not introduced and exclusions is not None:
            excluded = _before(exclusions, before[-_EXCLUDING - 32 :], _EXCLUDING)[1]
            if excluded:
                return pattern.confidence if near and not pattern.needs_keyword else None
        steps = (type_.keyword_boost if near else 0) + introduced
        return Confidence(min(Confidence.HIGH, pattern.confidence + steps))

    @staticmethod
    def _note(tally: Tally, index: int, key: str, best: _Best) -> None:
        seen = tally.seen.setdefault(index, {})
        known = seen.get(key)
        if known is not None:
            if best.confidence > known.confidence:
                seen[key] = best
        elif len(seen) < MAX_DISTINCT:
            seen[key] = best
        else:
            at = (index, best.confidence)
            tally.surplus[at] = tally.surplus.get(at, 0) + 1

    def findings(self, tally: Tally, asked: frozenset[str] | None = None) -> list[Finding]:
        """What the tally says, by type and falling confidence; ``asked`` limits the types (None: all)."""
        found: list[Finding] = []
        for index, seen in tally.seen.items():
            type_ = self.types[index]
            if asked is not None and type_.id not in asked:
                continue
            for confidence in (Confidence.HIGH, Confidence.MEDIUM, Confidence.LOW):
                same = [best for best in seen.values() if best.confidence is confidence]
                total = len(same) + tally.surplus.get((index, confidence), 0)
                shown = same[:MAX_FINDINGS]
                for n, best in enumerate(shown):
                    count = total - n if n == len(shown) - 1 else 1
                    found.append(
                        Finding(
                            Check.CONTENT, type_.id, "", best.part, best.offset, confidence, best.evidence, count=count
                        )
                    )
        return found


def types_digest(types: Sequence[InformationType]) -> str:
    """A name for a set of definitions: the same in every process, another when any of them changes."""
    return hashlib.sha256(repr(tuple(types)).encode()).hexdigest()


def _expressions_of(index: int, type_: InformationType) -> Iterator[tuple[_Expression, bytes, int]]:
    """Everything that Hyperscan looks for on behalf of one type: what it stands for, source, flags."""
    for pattern in type_.patterns:
        yield (
            _Expression(index, pattern, ""),
            rb"(?:\b|_)(?:" + pattern.regex.encode("ascii") + rb")(?:\b|_)",
            _PATTERN_FLAGS,
        )
    for word in type_.words:
        for form, flags in _forms(word):
            yield _Expression(index, None, form), _whole(form), flags
    for word in (*type_.keywords, *type_.exclusions) if type_.patterns else ():
        only_excludes = word not in type_.keywords
        yield (
            _Expression(index, None, word, keyword=True, exclusion=only_excludes),
            _presence(word),
            _PRESENCE_FLAGS,
        )


def _presence(word: str) -> bytes:
    """An expression that matches wherever :func:`_spoken` does, and sometimes elsewhere, but compiles fast."""
    inner = r"[\W_]+".join("".join(_quoted(c) if c.isascii() else ".{1,6}" for c in piece) for piece in word.split())
    return f"(?:^|[^0-9A-Za-z]){inner}(?:$|[^0-9A-Za-z])".encode()


def _forms(word: str) -> list[tuple[str, int]]:
    """The forms in which a word may be written, accents composed or apart, with the flags that each needs."""
    if word.isascii():
        return [(word, _WORD_FLAGS)]
    return [(unicodedata.normalize(form, word), _WIDE_WORD_FLAGS) for form in ("NFC", "NFD")]


def _whole(word: str) -> bytes:
    """Any white space between; Hyperscan knows word boundaries in ASCII only, so the edges are looked at again."""
    inner = r"\s+".join(_quoted(piece) for piece in word.split())
    first = r"\b" if word.isascii() and word[0].isalnum() else ""
    last = r"\b" if word.isascii() and word[-1].isalnum() else ""
    return f"{first}{inner}{last}".encode()


def _quoted(piece: str) -> str:
    return "".join(c if c.isalnum() or not c.isascii() else f"\\{c}" for c in piece)


def _spoken(words: Sequence[str]) -> re.Pattern[str] | None:
    """One expression for words in running text, longest first; None for no words."""
    if not words:
        return None
    forms = {form for word in words for form in (word, unicodedata.normalize("NFD", word))}
    sources = []
    for word in sorted(forms, key=lambda w: (-len(w), w)):
        inner = r"[\W_]+".join(re.escape(piece) for piece in word.split())
        first = r"(?<![^\W_])" if word[0].isalnum() else ""
        last = r"(?![^\W_])" if word[-1].isalnum() else ""
        sources.append(f"{first}{inner}{last}")
    return re.compile("|".join(sources), re.IGNORECASE)


def _before(words: re.Pattern[str], before: str, reach: int) -> tuple[bool, bool]:
    """Whether one of the words stands in the text before a match, and whether one introduces it.

    Introducing: it ends within ``reach`` characters of the match, no digit between.
    """
    near = False
    for found in words.finditer(before):
        near = True
        between = before[found.end() :]
        if len(between) <= reach and not any(c.isdigit() for c in between):
            return True, True
    return near, False


def _continues(outward: bytes, edges: str) -> bool:
    """True when the two octets beside a match, nearest first, make it part of something longer.

    A letter behind a point, slash or underscore does not («no.536-90-4399», «536-90-4399.pdf»); behind a dash it does.
    """
    if not outward:
        return False
    near = outward[0]
    if _is_alnum(near):
        return True
    if len(outward) < 2:
        return False
    far = outward[1]
    if near in b"./_":
        return 0x30 <= far <= 0x39
    if near == 0x2D:
        return _is_alnum(far)
    return edges == "run" and near == 0x20 and 0x30 <= far <= 0x39


def _is_alnum(octet: int) -> bool:
    return 0x30 <= octet <= 0x39 or 0x41 <= octet <= 0x5A or 0x61 <= octet <= 0x7A


def _start_of(word: str, data: bytes, end: int) -> int:
    """Where a word that ends at ``end`` begins: its pieces and the white space between them, backwards."""
    start = end
    for n, piece in enumerate(reversed(word.split())):
        if n:
            start = len(data[max(0, start - _GAP) : start].rstrip()) + max(0, start - _GAP)
        start -= len(piece.encode())
    return max(0, start)


def _is_letter(character: str) -> bool:
    """True for what continues a word."""
    return character.isalnum() or character == "_"
