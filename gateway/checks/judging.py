"""The exact look at what Hyperscan found in one text: extent, edges, validator, the words around it.

Runs for every candidate, thousands of times a megabyte of dense text: cheap looks come first, nothing is asked twice,
what is known of a value is remembered. Keeps the text for the time of one scan. Refuses nothing.
"""

import unicodedata
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from gateway.checks.company import raised
from gateway.checks.expressions import FOLDED_END, MARGIN, Meaning, continues, has_own_line, place_of
from gateway.checks.heard import Heard, Hit
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
_JOINS = frozenset(c for c in range(128) if chr(c).isalnum() or chr(c) in "./_-")
"""Octets beside a match that can make it part of something longer; beside all others there is nothing to ask."""
_RUN_JOINS = _JOINS | {0x20}

_Extent = tuple[bytes, int, int, str]
"""A value, where its match begins and ends, and what makes it the same as another one."""


class Matter(NamedTuple):
    """One text, and what is known of it as a whole."""

    data: bytes
    heard: Heard
    place: Place
    named: set[int]
    """Types of which a keyword stands somewhere."""
    excluded: set[int]
    """Types of which an exclusion does that folded text does not show."""


class Judge:
    """Judges the candidates of one text."""

    def __init__(
        self, types: Sequence[InformationType], nearby: Sequence["Nearby"], matter: Matter, hits: Sequence[Hit]
    ) -> None:
        """``hits``: all candidates for patterns, of which the words around may be asked."""
        self._types, self._nearby, self._matter = types, nearby, matter
        self._windows = [type_.keyword_window for type_ in types]
        self._data = matter.data
        self._hits = hits
        self._spans: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
        self._keywords: dict[int, Spots | None] = {}
        self._looked: tuple[Any, int, Any] = (None, -1, None)
        """The last exact expression, where it was looked for, its match: types share some."""

    def words(self, hits: Iterable[Hit]) -> Iterator[Sighting]:
        """Those words of lists, seen in folded text, that really stand there."""
        for meanings, _, end in hits:
            for meaning in meanings:
                found = _word(meaning, self._data, end - FOLDED_END + meaning.tail)
                if found is not None:
                    yield found

    def patterns(self, tally: Tally, waiting: frozenset[int]) -> Iterator[Sighting]:
        """Those candidates that hold. ``waiting``: types of which the tally does not know everything yet."""
        sure: set[tuple[int, int, int]] = set()  # matches of which another pattern can say nothing new
        last: dict[int, int] = {}
        for meanings, start, end in self._hits:
            for meaning in meanings:
                if meaning.exact is not None:  # says where the match ends, wherever Hyperscan saw an end
                    if last.get(id(meaning)) == start:
                        continue
                    last[id(meaning)] = start
                pattern = meaning.pattern
                if pattern is None:
                    found = _word(meaning, self._data, end)
                elif meaning.exact is None and (meaning.type_, start, end) in sure:
                    found = None
                elif pattern.needs_keyword and not self._may_be_near(meaning.type_, start, end):
                    found = None
                else:
                    found = self._candidate(meaning, pattern, start, end, None if meaning.type_ in waiting else tally)
                if found is not None:
                    if found.confidence is Confidence.HIGH and meaning.exact is None:
                        sure.add((meaning.type_, start, end))
                    yield found

    def _candidate(
        self, meaning: Meaning, pattern: Pattern, start: int, end: int, tally: Tally | None
    ) -> Sighting | None:
        """The sighting if it is one. ``tally``: one that knows its value surely already has nothing to decide."""
        extent = self._extent(meaning, pattern, start, end)
        if extent is None:
            return None
        if tally is not None and not pattern.needs_keyword:
            surest = Confidence.HIGH if meaning.type_ in self._matter.named else pattern.confidence
            if self._is_known(meaning, extent, surest, tally):
                return None
        return self._sighting(meaning, pattern, extent)

    def _is_known(self, meaning: Meaning, extent: _Extent, surest: Confidence, tally: Tally) -> bool:
        """Whether the value was seen, as sure as it can be; then that is counted."""
        known = tally.seen.get(meaning.type_, _NOTHING).get(extent[3])
        if known is None or known.confidence < surest:
            return False
        tally.repeat(known, extent[2], self._matter.place)
        return True

    def _sighting(self, meaning: Meaning, pattern: Pattern, extent: _Extent) -> Sighting | None:
        value, start, end, key = extent
        index = meaning.type_
        if pattern.validator and not self._is_valid(index, pattern.validator, value):
            return None
        confidence = self._confidence(index, pattern, start, end)
        if confidence is None:
            return None
        return Sighting(index, key, confidence, start, end, redacted(self._types[index].redaction, key))

    def _extent(self, meaning: Meaning, pattern: Pattern, start: int, end: int) -> _Extent | None:
        """The value as far as the match goes; None when its edges or its words say that it is none."""
        data, edges = self._data, pattern.edges
        if has_own_line(pattern):
            return _alone(meaning, data, start, end)
        joins = _RUN_JOINS if edges == "run" else _JOINS
        if data[start] == _UNDERSCORE:
            start += 1
        if start and data[start - 1] in joins:
            ahead = data[max(0, start - 2) : start][::-1]
            if continues(ahead, edges) and not self._labelled(meaning.type_, start):
                return None
        if meaning.exact is not None:
            if self._looked[0] is not meaning.exact or self._looked[1] != start:
                self._looked = (meaning.exact, start, meaning.exact.match(data[start : start + EXACT_WINDOW]))
            found = self._looked[2]
            if found is None:
                return None
            first, last = found.span(meaning.group)
            value = b"" if first < 0 else data[start + first : start + last]
            end = start + (found.end() if meaning.group else last)
        else:
            end -= data[end - 1] == _UNDERSCORE
            value = data[start:end]
        if edges != "start" and end < len(data) and data[end] in joins and continues(data[end : end + 2], edges):
            return None
        if meaning.never is not None and meaning.never.fullmatch(value):
            return None
        return value, start, end, digits_of(value) if meaning.numeric else value.decode("utf-8", "replace").casefold()

    def _is_valid(self, index: int, validator: str, value: bytes) -> bool:
        networks = self._nearby[index].networks
        if validator != "ip-address" or networks is None:
            return VALIDATORS[validator](value)
        return networks.hold(value)

    def _whole(self, index: int) -> Spots | None:
        """The keywords near all matches of a type; None when they are looked for match by match."""
        if index not in self._keywords:
            near = self._nearby[index].keywords
            if near.seen_folded and (spots := self._matter.heard.spots(index)) is not None:
                self._keywords[index] = spots
                return spots
            if not self._spans:
                for meanings, start, end in self._hits:
                    for meaning in meanings:
                        self._spans[meaning.type_].append((start, end))
            self._keywords[index] = near.around(self._matter.heard.folded, self._data, self._spans[index])
        return self._keywords[index]

    def _keywords_around(self, index: int, start: int, end: int) -> Spots:
        near = self._whole(index)
        if near is None:
            near = self._nearby[index].keywords.around(self._matter.heard.folded, self._data, [(start, end)])
        return near or Spots([], [])

    def _may_be_near(self, index: int, start: int, end: int) -> bool:
        """False when no keyword stands anywhere near."""
        near = self._keywords[index] if index in self._keywords else self._whole(index)
        if near is None:
            return True
        window = self._windows[index]
        at = bisect_right(near.ends, max(end, start + EXACT_WINDOW) + window)
        if not at or near.ends[at - 1] <= start - window:  # most are far from all keywords
            return False
        return near.last(start - window, max(end, start + EXACT_WINDOW) + window) >= 0

    def _labelled(self, index: int, start: int) -> bool:
        """True when what is joined to a match by a dash is a keyword: «SSN-536-90-4399»."""
        if self._data[start - 1] != _DASH or index not in self._matter.named:
            return False
        keywords = self._keywords_around(index, start, start)
        return keywords.last(start - self._types[index].keyword_window, start - 1) == start - 1

    def _confidence(self, index: int, pattern: Pattern, start: int, end: int) -> Confidence | None:
        """How sure, from the words around; None: not a match."""
        named, excluded = index in self._matter.named, self._is_excluded(index)
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
        if excluded and (pattern.introduced or not introduced):
            stays = not pattern.needs_keyword and (near or pattern.confidence > Confidence.LOW)
            if self._leads(self._nearby[index].exclusions, first, start):
                return raised(pattern.confidence, -1) if near and not pattern.needs_keyword else None
            if type_.doubts and self._leads(self._nearby[index].doubts, first, start):
                return raised(pattern.confidence, -1) if stays else None
        return raised(pattern.confidence, (type_.keyword_boost if near else 0) + introduced)

    def _is_excluded(self, index: int) -> bool:
        type_ = self._types[index]
        if not (type_.exclusions or type_.doubts):
            return False
        return index in self._matter.heard.excluded or index in self._matter.excluded

    def _leads(self, words: Exclusions, first: int, start: int) -> bool:
        """Whether one of the words leads to the match."""
        first = max(first, start - _EXCLUDING_WINDOW)
        end = words.last_end(self._matter.heard.folded, self._data, first, start)
        return end >= 0 and _leads_to(self._data[end:start], _EXCLUDING)


class _Networks:
    """The networks in which an address of a type lies, and those in which it does not, as numbers."""

    __slots__ = ("_inside", "_outside")

    def __init__(self, type_: InformationType) -> None:
        self._inside = [(n.version, int(n.netmask), int(n.network_address)) for n in type_.inside]
        self._outside = [(n.version, int(n.netmask), int(n.network_address)) for n in type_.outside]

    def hold(self, value: bytes) -> bool:
        """Whether the value is an address in them."""
        address = address_of(value)
        if address is None or not address[1]:
            return False
        version, number = address
        for kind, mask, network in self._outside:
            if number & mask == network and kind == version:
                return False
        if not self._inside:
            return True
        return any(number & mask == network and kind == version for kind, mask, network in self._inside)


class Nearby(NamedTuple):
    """What matters near a type's matches, and in them."""

    keywords: Keywords
    exclusions: Exclusions
    doubts: Exclusions
    networks: _Networks | None


def nearby_of(type_: InformationType) -> Nearby:
    """They, ready to be looked for."""
    reach = EXACT_WINDOW if any(pattern.exact for pattern in type_.patterns) else 0
    keywords = Keywords(type_.keywords, type_.keyword_window, type_.keyword_window + reach)
    networks = _Networks(type_) if type_.inside or type_.outside else None
    return Nearby(keywords, Exclusions(type_.exclusions), Exclusions(type_.doubts), networks)


def _alone(meaning: Meaning, data: bytes, start: int, end: int) -> _Extent | None:
    """The value of a match that Hyperscan saw to be alone, without what may stand beside it."""
    whole = data[start:end]
    start += len(whole) - len(whole.lstrip(MARGIN))
    value = whole.strip(MARGIN)
    if meaning.never is not None and meaning.never.fullmatch(value):
        return None
    return value, start, start + len(value), digits_of(value) if meaning.numeric else value.decode("utf-8", "replace")


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
    if b"://" not in piece:
        return -1
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


def redacted(form: str, key: str) -> str:
    """Evidence: ``{last4}`` is the value's last four letters or digits."""
    if "{last4}" not in form:
        return form
    last = key[-4:] if key.isalnum() else "".join(c for c in key[-12:] if c.isalnum())[-4:]
    return form.replace("{last4}", last)
