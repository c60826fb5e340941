"""The exact look at what Hyperscan found in one text: extent, edges, validator, the words around it.

Runs for every candidate, thousands of times a megabyte of dense text: cheap looks come first, nothing is asked twice,
what is known of a value is remembered. Keeps the text for the time of one scan. Refuses nothing.
"""

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from gateway.checks.company import raised
from gateway.checks.expressions import FOLDED_END, Meaning, continues, place_of
from gateway.checks.nearby import Exclusions, Keywords, Spots
from gateway.checks.tally import Place, Seen, Sighting, Tally
from gateway.checks.validators import VALIDATORS, address_of, digits_of
from gateway.model.finding import Confidence
from gateway.policy.types import InformationType, Pattern

EXACT_WINDOW = 400
"""Octets in which an exact expression must end."""
_UNDERSCORE = 0x5F
"""No word boundary to Hyperscan, but one to people who name files."""
_DASH = 0x2D
_DIRECTLY = 24
"""Characters between a keyword and the match that it introduces."""
_EXCLUDING = 16
_EXCLUDING_WINDOW = 48
"""Octets before a match in which an exclusion lies."""
_LINK = 1000
"""Octets of a web address that are looked back over."""
_DIGITS = b"0123456789"
_JOINS = bytes(c for c in range(256) if chr(c).isascii() and (chr(c).isalnum() or chr(c) in "./_- "))
"""Octets beside a match that can make it part of something longer; beside all others there is nothing to ask."""

Hit = tuple[tuple[Meaning, ...], int, int]
"""What was found, and where it begins and ends."""


class Matter(NamedTuple):
    """One text, and what is known of it as a whole."""

    data: bytes
    folded: bytes
    place: Place
    named: set[int]
    """Types of which a keyword stands somewhere."""
    excluded: set[int]
    """Types of which an exclusion does."""


class Judge:
    """Judges the candidates of one text."""

    def __init__(
        self, types: Sequence[InformationType], nearby: Sequence["Nearby"], matter: Matter, hits: Sequence[Hit]
    ) -> None:
        """``hits``: all candidates for patterns, of which the words around may be asked."""
        self._types, self._nearby, self._matter = types, nearby, matter
        self._data = matter.data
        self._hits = hits
        self._asking: dict[int, int] = {}
        self._keywords: dict[int, Spots | None] = {}
        self._valid: dict[tuple[int, str, str], bool] = {}

    def words(self, hits: Iterable[Hit]) -> Iterator[Sighting]:
        """Those words of lists, seen in folded text, that really stand there."""
        for meanings, _, end in hits:
            for meaning in meanings:
                found = _word(meaning, self._data, end - FOLDED_END + meaning.tail)
                if found is not None:
                    yield found

    def patterns(self, tally: Tally, waiting: frozenset[int]) -> Iterator[Sighting]:
        """Those candidates that hold. ``waiting``: types of which the tally does not know everything yet."""
        seen = tally.seen
        named = self._matter.named
        for meanings, start, end in self._hits:
            for meaning in meanings:
                pattern = meaning.pattern
                if pattern is None:
                    found = _word(meaning, self._data, end)
                    if found is not None:
                        yield found
                    continue
                if pattern.needs_keyword and not self._may_be_near(meaning.type_, start, end):
                    continue
                extent = self._extent(meaning, pattern, start, end)
                if extent is None:
                    continue
                value, first, last = extent
                index = meaning.type_
                key = digits_of(value) if meaning.numeric else value.decode("utf-8", "replace").casefold()
                if not pattern.needs_keyword and index not in waiting:
                    known = seen.get(index, _NOTHING).get(key)
                    if known is not None and known.confidence >= (
                        Confidence.HIGH if index in named else pattern.confidence
                    ):
                        tally.repeat(known, last, self._matter.place)
                        continue
                found = self._sighting(index, pattern, (key, value), first, last)
                if found is not None:
                    yield found

    def _sighting(
        self, index: int, pattern: Pattern, found: tuple[str, bytes], start: int, end: int
    ) -> Sighting | None:
        key, value = found
        if pattern.validator:
            asked = (index, pattern.validator, key)
            valid = self._valid.get(asked)
            if valid is None:
                valid = self._valid[asked] = self._is_valid(index, pattern.validator, value)
            if not valid:
                return None
        confidence = self._confidence(index, pattern, start, end)
        if confidence is None:
            return None
        return Sighting(index, key, confidence, start, end, _redacted(self._types[index].redaction, key))

    def _extent(self, meaning: Meaning, pattern: Pattern, start: int, end: int) -> tuple[bytes, int, int] | None:
        """The value and where the match begins and ends; None when its edges or its words say that it is none."""
        data = self._data
        if data[start] == _UNDERSCORE:
            start += 1
        if start and data[start - 1] in _JOINS:
            ahead = data[max(0, start - 2) : start][::-1]
            if continues(ahead, pattern.edges) and not self._labelled(meaning.type_, start):
                return None
        if meaning.exact is not None:
            found = meaning.exact.match(data[start : start + EXACT_WINDOW])
            if found is None:
                return None
            value, end = bytes(found.group(meaning.group)), start + found.end()
        else:
            end -= data[end - 1] == _UNDERSCORE
            value = data[start:end]
        if (
            pattern.edges != "start" and end < len(data) and data[end] in _JOINS
            and continues(data[end : end + 2], pattern.edges)
        ):  # fmt: skip
            return None
        if meaning.never is not None and meaning.never.fullmatch(value):
            return None
        return value, start, end

    def _is_valid(self, index: int, validator: str, value: bytes) -> bool:
        type_ = self._types[index]
        if validator != "ip-address" or not (type_.inside or type_.outside):
            return VALIDATORS[validator](value)
        address = address_of(value)
        if address is None or address.is_unspecified:
            return False
        if type_.inside and not any(address in network for network in type_.inside):
            return False
        return not any(address in network for network in type_.outside)

    def _whole(self, index: int) -> Spots | None:
        """The keywords of a type in the whole text; None when they are looked for match by match."""
        if index not in self._keywords:
            if not self._asking:
                for meanings, _, _ in self._hits:
                    for meaning in meanings:
                        self._asking[meaning.type_] = self._asking.get(meaning.type_, 0) + 1
            keywords, asking = self._nearby[index].keywords, self._asking[index]
            self._keywords[index] = keywords.in_text(self._matter.folded, self._data, asking)
        return self._keywords[index]

    def _keywords_around(self, index: int, start: int, end: int) -> Spots:
        whole = self._whole(index)
        if whole is None:
            return self._nearby[index].keywords.in_window(self._matter.folded, self._data, start, end)
        return whole

    def _may_be_near(self, index: int, start: int, end: int) -> bool:
        """False when no keyword stands anywhere near, which is cheap to see when all of them are known."""
        whole = self._whole(index)
        window = self._types[index].keyword_window
        return whole is None or whole.last(start - window, max(end, start + EXACT_WINDOW) + window) >= 0

    def _labelled(self, index: int, start: int) -> bool:
        """True when what is joined to a match by a dash is a keyword: «SSN-536-90-4399»."""
        if self._data[start - 1] != _DASH or index not in self._matter.named:
            return False
        keywords = self._keywords_around(index, start, start)
        return keywords.last(start - self._types[index].keyword_window, start - 1) == start - 1

    def _confidence(self, index: int, pattern: Pattern, start: int, end: int) -> Confidence | None:
        """How sure, from the words around; None: not a match."""
        named, excluded = index in self._matter.named, index in self._matter.excluded
        if not (named or excluded):
            return None if pattern.needs_keyword else pattern.confidence
        type_, data = self._types[index], self._data
        window = type_.keyword_window
        link = _link_before(data, start) if data[start:end].isdigit() else -1
        first = max(0, start - window, link)
        introduced = near = False
        if named:
            keywords = self._keywords_around(index, start, end)
            keyword = keywords.last(first, start)
            near = keyword >= 0
            introduced = near and _leads_to(data[keyword:start], _DIRECTLY)
            near = near or (link < 0 and keywords.last(end, end + window) >= 0)
        if (pattern.needs_keyword and not near) or (pattern.introduced and not introduced):
            return None
        if excluded and (pattern.introduced or not introduced) and self._ruled_out(index, first, start):
            return pattern.confidence if near and not pattern.needs_keyword else None
        return raised(pattern.confidence, (type_.keyword_boost if near else 0) + introduced)

    def _ruled_out(self, index: int, first: int, start: int) -> bool:
        """Whether an exclusion leads to the match."""
        first = max(first, start - _EXCLUDING_WINDOW)
        end = self._nearby[index].exclusions.last_end(self._matter.folded, self._data, first, start)
        return end >= 0 and _leads_to(self._data[end:start], _EXCLUDING)


class Nearby(NamedTuple):
    """The words that matter near a type's matches."""

    keywords: Keywords
    exclusions: Exclusions


_NOTHING: Mapping[str, Seen] = {}


def _leads_to(between: bytes, reach: int) -> bool:
    """Whether a word introduces the match behind it: few characters between, no digit among them."""
    if len(between) > 4 * reach:
        return False
    if between.isascii():
        return len(between) <= reach and between.translate(None, _DIGITS) == between
    text = between.decode("utf-8", "ignore")
    return len(text) <= reach and not any(c.isdigit() for c in text)


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
    last = key[-4:] if key.isalnum() else "".join(c for c in key[-12:] if c.isalnum())[-4:]
    return form.replace("{last4}", last)
