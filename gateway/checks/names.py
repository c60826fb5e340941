"""Names of persons in running text: words with a capital, judged by lists of names and of ordinary words.

No grammar: «Brown» alone may be a colour, so a single name is worth little, a given name with another behind it more.
Works on the plain UTF-8 form, each word once: linear. Refuses capitals throughout (a heading), what follows a number (a
street) or goes before one, what stands in an address of mail or the web, and more than three words in a row.
"""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from gateway.model.finding import Confidence
from gateway.policy.namelists import NameLists

_CAPITAL = rb"(?:[A-Z]|\xc3[\x80-\x96\x98-\x9e]|[\xc4\xc5][\x80-\xbf])"
_LETTERS = rb"(?:[A-Za-z'-]|[\xc3-\xc9][\x80-\xbf]|\xe2\x80\x99){0,40}"
_WORD = _CAPITAL + rb"(?:\.|" + _LETTERS + rb")"
_JOIN = rb" (?:(?:van|de|der|den|da|dos|del|la|von|al|el|bin|of|and|the) ){0,2}"
_ROW = re.compile(rb"(?<![\w@/.:\x80-\xff-])%b(?:%b%b){0,7}(?![\w@])" % (_WORD, _JOIN, _WORD))
_BETWEEN = re.compile(rb" (?:(?:and|of|the) ?)+ ?")
_BEGIN = re.compile(rb"[A-Z\xc3-\xc5][A-Za-z\x80-\xc9]*")
"""A word with a capital, as far as its first sign that is no letter."""
_STREET = re.compile(rb"\d[A-Za-z]?\s?\Z")
_BEHIND = re.compile(rb"\s{0,4}(?:\d|,? (?:Inc|LLC|Ltd|PLC|Corp|SA\b|AG\b|AB\b)| (?:street|avenue|road)\b)")
_REACH = 60
"""Octets of a name that begins before what is looked at."""
_LONGEST = 3
"""Words of a name, initials and «van der» aside."""


class Name(NamedTuple):
    """Where one stands, and how sure it is one."""

    start: int
    end: int
    confidence: Confidence


class _Word(NamedTuple):
    start: int
    written: bytes
    key: bytes


class Names:
    """The lists, ready to be asked."""

    def __init__(self, lists: NameLists) -> None:
        self._given = _keys(lists.given)
        self._family = _keys(lists.family)
        self._ordinary = _keys(lists.ordinary)
        self._never = _keys(lists.never)
        self._behind = _keys(lists.behind)
        self._begins = frozenset(found[0].lower() for key in self._given if (found := _BEGIN.match(key.capitalize())))

    def find(
        self, data: bytes, first: int = 0, last: int | None = None, least: Confidence = Confidence.LOW
    ) -> Iterator[Name]:
        """Names that begin between the two offsets. ``least``: less sure ones are of no use and may be left out."""
        last = len(data) if last is None else last
        sure = least > Confidence.LOW
        if sure and self._begins.isdisjoint(map(bytes.lower, _BEGIN.findall(data, first, last))):
            return  # a sure one begins with a given name
        for row in _ROW.finditer(data, first, last):
            at = row.start()
            if b" " not in row[0] and (sure or self._is_ordinary(row[0])):  # most are: what begins a sentence
                continue
            for gap in (*_BETWEEN.finditer(row[0]), None):
                end = row.start() + gap.start() if gap else row.end()
                found = self._judged(data, at, end)
                if found is not None:
                    yield found
                at = row.start() + gap.end() if gap else end

    def _is_ordinary(self, word: bytes) -> bool:
        """Whether a word that stands alone is no name, whatever stands around it."""
        key = _key(word)
        return len(word) < 2 or key in self._ordinary or key in self._never

    def _judged(self, data: bytes, start: int, end: int) -> Name | None:
        words = _words(data, start, end)
        if not words or words[-1].key in self._behind or any(_shouted(word.written) for word in words):
            return None
        if _STREET.search(data[max(0, start - 3) : start]) or _BEHIND.match(data, end):
            return None
        words = [w for w in self._without_beginning(words) if len(w.key) > 1 and not w.written[:1].islower()]
        if not words or len(words) > _LONGEST or any(w.key in self._never or w.key in self._behind for w in words):
            return None
        confidence = self._single(words[0]) if len(words) == 1 else self._several(words)
        return Name(words[0].start, end, confidence) if confidence is not None else None

    def _without_beginning(self, words: list[_Word]) -> list[_Word]:
        """Without what begins a sentence: «Ask Jennifer Anderson»; «Mark Anderson» is whole."""
        n = 0
        while n < len(words):
            key = words[n].key
            if len(words[n].written) > 1 and key not in self._ordinary and key not in self._never:
                break
            behind = words[n + 1].key if n + 1 < len(words) else b""
            if key in self._given and behind in self._family and behind not in self._ordinary:
                break
            n += 1
        return words[n:]

    def _single(self, word: _Word) -> Confidence | None:
        if word.key in self._ordinary:
            return None
        return Confidence.LOW if word.key in self._given or word.key in self._family else None

    def _several(self, words: list[_Word]) -> Confidence | None:
        given, family = words[0].key, words[-1].key
        if given in self._given and (family in self._family or family not in self._ordinary):
            return Confidence.MEDIUM
        if given in self._given or family in self._family or all(w.key not in self._ordinary for w in words):
            return Confidence.LOW
        return None


def spans_around(data: bytes, places: Iterable[tuple[int, int, int]]) -> list[tuple[int, int]]:
    """The text around places, each given with its start, its end and how far to look; no word is cut, none is twice."""
    spans: list[tuple[int, int]] = []
    for start, end, within in sorted(places):
        first = max(0, start - within - _REACH)
        last = min(len(data), end + within)
        while last < len(data) and data[last] not in b" \r\n\t":
            last += 1
        if spans and first <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(spans[-1][1], last))
        else:
            spans.append((first, last))
    return spans


def _keys(words: tuple[str, ...]) -> frozenset[bytes]:
    return frozenset(word.lower().encode() for word in words)


def _words(data: bytes, start: int, end: int) -> list[_Word]:
    found, at = [], start
    for piece in data[start:end].split(b" "):
        found.append(_Word(at, piece, _key(piece)))
        at += len(piece) + 1
    return found


def _key(written: bytes) -> bytes:
    """The word as the lists have it."""
    return written.lower().replace(b"\xe2\x80\x99", b"'").removesuffix(b"'s").strip(b"'.")


def _shouted(word: bytes) -> bool:
    return len(word.strip(b".")) > 1 and word.isupper()
