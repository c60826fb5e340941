"""The words around a match: where a type's keywords stand near what was found, and whether an exclusion leads to it.

Keywords have one small Hyperscan database a type, run once over all that stands near its matches; match by match when
the words are so many that a hostile text must have been filled with them: the cost stays in proportion to the matches.
Refuses words that are cut: half a word at a window's edge is none.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import hyperscan

from gateway.checks.expressions import FOLDED_END, database_of, folded, forms_of, source_of

_WORTH = 600
"""Octets of a text that cost as much to search as one more window."""
_SPARE, _EACH = 64, 16
"""Words that are looked at in one go: at first, and for each match."""
_SPACE = 0x20
_SEAM = b"\0"
"""Between pieces that are searched as one; stands in no text and matches nothing."""
_CONTEXT = 4
"""Octets of one character beside a word."""


class Word(NamedTuple):
    """One form of a keyword or an exclusion."""

    written: re.Pattern[str]
    """In decoded text: whatever stands between the pieces, no letter beside it."""
    plain: bool
    """True: letters and digits of ASCII only, so that folded text shows the whole word."""
    lead: int
    """Octets before what folded text shows of it."""
    tail: int
    """And behind."""


class Spots(NamedTuple):
    """Where words stand, by their ends."""

    ends: list[int]
    starts: list[int]

    def last(self, first: int, end: int) -> int:
        """End of the last word that lies between the two, -1: none."""
        at = bisect_right(self.ends, end) - 1
        while at >= 0 and self.ends[at] > first:
            if self.starts[at] >= first:
                return self.ends[at]
            at -= 1
        return -1


class Keywords:
    """The keywords of one type, compiled when first needed."""

    __slots__ = ("_before", "_behind", "_folded", "_wide", "_words", "_written", "seen_folded")

    def __init__(self, words: Sequence[str], before: int, behind: int) -> None:
        """``before``, ``behind``: octets beside a match."""
        self._written = words
        self.seen_folded = all(folded(form.encode()).strip() for word in words for form in forms_of(word))
        """True: folded text shows something of each."""
        self._before, self._behind = before, behind
        self._words: list[Word] = []
        self._folded: hyperscan.Database | None = None
        self._wide: hyperscan.Database | None = None

    def around(self, text: bytes, data: bytes, spans: Sequence[tuple[int, int]]) -> Spots | None:
        """The keywords around some matches, each given by where it begins and ends. ``text``: ``data`` folded.

        None: so many words that looking at the matches one by one, when they are asked for, is cheaper.
        """
        if not self._words and self._written:
            self._compile()
        windows = _windows(spans, self._before, self._behind, len(data))
        most = _SPARE + _EACH * len(spans) if len(spans) > 1 else len(data)
        found: list[tuple[int, int]] = []
        try:
            if self._folded is not None:
                pieces = [(text[first : last + FOLDED_END], first) for first, last in windows]
                for number, start, end in _search(self._folded, pieces, most):
                    found.extend(located(self._words[number], data, start, end - FOLDED_END))
            if self._wide is not None:
                pieces = [_whole_characters(data, first, last) for first, last in windows]
                for number, start, end in _search(self._wide, pieces, most):
                    found.extend(located(self._words[number], data, start, end))
        except hyperscan.ScanTerminated:
            return None
        found.sort(key=itemgetter(1))
        return Spots([end for _, end in found], [start for start, _ in found])

    def _compile(self) -> None:
        forms = [form for word in self._written for form in forms_of(word)]
        sources = [source_of(form, hyperscan.HS_FLAG_SOM_LEFTMOST) for form in forms]
        self._words = [word_of(form) for form in forms]
        shown = [n for n, source in enumerate(sources) if source.folded]
        other = [n for n, source in enumerate(sources) if not source.folded]
        self._folded = database_of([sources[n] for n in shown], shown) if shown else None
        self._wide = database_of([sources[n] for n in other], other) if other else None


class Exclusions:
    """The exclusions of one type. They count directly before a match only, so that a few words are all to look at."""

    __slots__ = ("_always", "_by_last")

    def __init__(self, words: Sequence[str]) -> None:
        self._by_last: dict[bytes, list[re.Pattern[str]]] = {}
        self._always: list[re.Pattern[str]] = []
        for form in dict.fromkeys(form for word in words for form in forms_of(word)):
            pieces = folded(form.encode()).split()
            if pieces:
                self._by_last.setdefault(pieces[-1], []).append(_written(form))
            else:
                self._always.append(_written(form))

    def last_end(self, text: bytes, data: bytes, first: int, end: int) -> int:
        """End of the last exclusion between the two, -1: none. ``text``: ``data`` folded."""
        pieces = text[first + 1 : end + 1].split()
        known = self._by_last.keys() & pieces
        if not known and not self._always:
            return -1
        while 0 < first < end and text[first] != _SPACE and text[first + 1] != _SPACE:  # not in the middle of a word
            first += 1
        shown = data[first:end].decode("utf-8", "ignore")
        patterns = [*self._always, *(pattern for piece in known for pattern in self._by_last[piece])]
        last = max((found.end() for pattern in patterns for found in pattern.finditer(shown)), default=-1)
        return end - len(shown[last:].encode()) if last >= 0 else -1


def _windows(spans: Sequence[tuple[int, int]], before: int, behind: int, size: int) -> list[tuple[int, int]]:
    """What stands around the spans, overlapping ones joined; one window over all when that is no more to look at."""
    if len(spans) * max(_WORTH, before + behind) > size:
        return [(0, size)]
    windows: list[tuple[int, int]] = []
    last = -1
    for start, end in sorted(spans):
        if not windows or start - before > last:
            windows.append((max(0, start - before), 0))
        last = max(last, end + behind)
        windows[-1] = (windows[-1][0], min(size, last))
    return windows


def _search(
    database: hyperscan.Database, pieces: Sequence[tuple[bytes, int]], most: int
) -> Iterator[tuple[int, int, int]]:
    """Expression, start and end in the text of which each piece is given with its offset.

    Raises :class:`hyperscan.ScanTerminated` after ``most``.
    """
    hits: list[tuple[int, int, int]] = []

    def on_match(number: int, start: int, end: int, _flags: int, _context: Any) -> bool:
        hits.append((number, start, end))
        return len(hits) > most

    database.scan(_SEAM.join([piece for piece, _ in pieces]), match_event_handler=on_match)
    if not hits:
        return
    begins, at = [], 0
    for piece, _ in pieces:
        begins.append(at)
        at += len(piece) + len(_SEAM)
    for number, start, end in hits:
        n = bisect_right(begins, start) - 1
        shift = pieces[n][1] - begins[n]
        yield number, start + shift, end + shift


def _whole_characters(data: bytes, first: int, last: int) -> tuple[bytes, int]:
    """A piece of UTF-8 without what is cut at its ends, and where it then begins."""
    while first < last and data[first] & 0xC0 == 0x80:
        first += 1
    return data[first:last].decode("utf-8", "ignore").encode(), first


def _written(form: str) -> re.Pattern[str]:
    """A word in running text: whatever stands between its pieces, no letter beside it."""
    inner = r"[\W_]+".join(re.escape(piece) for piece in form.split())
    first = r"(?<![^\W_])" if form[0].isalnum() else ""
    last = r"(?![^\W_])" if form[-1].isalnum() else ""
    return re.compile(f"{first}{inner}{last}", re.IGNORECASE)


def word_of(form: str) -> Word:
    """How a keyword or an exclusion is looked for."""
    shown = folded(form.encode())[1:-1]
    seen = bool(shown.strip())
    return Word(
        _written(form),
        form.isascii() and form.replace(" ", "").isalnum(),
        len(shown) - len(shown.lstrip()) if seen else 0,
        len(shown) - len(shown.rstrip()) if seen else 0,
    )


def located(word: Word, data: bytes, start: int, end: int) -> tuple[tuple[int, int], ...]:
    """Where the word stands of which that much was seen; (): it is another one («no.» for «no», «sealé»)."""
    if word.plain and data[max(0, start - 1) : end + 1].isascii():
        return ((start, end),)
    start, end = start - word.lead, end + word.tail
    if start < 0 or end > len(data):
        return ()
    first = max(0, start - _CONTEXT)
    while first < start and data[first] & 0xC0 == 0x80:  # not in the middle of a character
        first += 1
    before = data[first:start].decode("utf-8", "replace")
    inside = data[start:end].decode("utf-8", "replace")
    behind = data[end : end + _CONTEXT].decode("utf-8", "ignore")
    found = word.written.match(before + inside + behind, len(before))
    return ((start, end),) if found is not None and found.end() == len(before) + len(inside) else ()
