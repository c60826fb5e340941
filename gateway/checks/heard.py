"""The words of one text: one pass of Hyperscan over its folded form finds those of lists, and where keywords stand.

Every type that was found asks for keywords again and again; exclusions are looked for when something is to be judged.
Refuses to keep more keywords than :func:`_most` of a text: one that is filled with them says only which there are.
"""

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

from gateway.checks.databases import Databases
from gateway.checks.expressions import FOLDED_END, Meaning, Source, database_of, folded, squeezed
from gateway.checks.nearby import Spots, Word, located, word_of

Hit = tuple[tuple[Meaning, ...], int, int]
"""What was found, and where it begins and ends."""
_Raw = tuple[int, int, int]


def _most(size: int) -> int:
    """Keywords of which the places are kept in a text of so many octets: more than any letter has."""
    return 1000 + size // 64


class Words:
    """The compiled words of lists, keywords and exclusions of some types."""

    def __init__(self, meanings: Mapping[Source, Sequence[Meaning]], databases: Databases | None = None) -> None:
        """``meanings``: of folded expressions. Raises :class:`hyperscan.error`."""
        kinds: tuple[dict[Source, tuple[Meaning, ...]], ...] = ({}, {}, {})
        for source, same in meanings.items():
            for kind, some in enumerate((
                [m for m in same if not m.presence],
                [m for m in same if m.presence and not m.exclusion],
                [m for m in same if m.exclusion],
            )):  # fmt: skip
                if some:
                    kinds[kind][source] = tuple(some)
        listed, keywords, exclusions = kinds
        self._meanings = [*listed.values(), *keywords.values()]
        self._first_keyword = len(listed)
        self._words: dict[str, Word] = {}
        every = [*listed, *keywords]
        self._database = database_of(every, range(len(every)), databases) if every else None
        self._exclusions = database_of(list(exclusions), range(len(exclusions)), databases) if exclusions else None
        self._excluding = list(exclusions.values())

    def heard(self, data: bytes, room: int) -> "Heard":
        """What stands in a text. ``room``: words of lists that are kept."""
        heard = Heard(self, data)
        if self._database is not None:
            self._listen(heard, room)
        return heard

    def _listen(self, heard: "Heard", room: int) -> None:
        short, first = heard.short, self._first_keyword
        listed: list[_Raw] = []
        keywords: list[_Raw] = []
        others: set[int] = set()
        most = _most(len(short.text))

        def on_match(number: int, start: int, end: int, _flags: int, _context: Any) -> None:
            if number >= first:
                if len(keywords) < most:
                    keywords.append((number, start, end))
                else:
                    others.add(number)
            elif len(listed) < room:
                listed.append((number, start, end))
            else:
                heard.surplus += 1

        assert self._database is not None
        self._database.scan(short.text, match_event_handler=on_match)
        meanings = self._meanings
        heard.listed = [(meanings[number], start, short.place(end)) for number, start, end in listed]
        seen = others.union(number for number, _, _ in keywords)
        heard.named = {meaning.type_ for number in seen for meaning in meanings[number]}
        heard.keywords = None if others else keywords

    def excluded(self, text: bytes) -> set[int]:
        """Types of which an exclusion stands in squeezed text."""
        found: set[int] = set()
        if self._exclusions is not None:
            self._exclusions.scan(text, match_event_handler=lambda number, *_: found.add(number))
        return {meaning.type_ for number in found for meaning in self._excluding[number]}

    def spots(self, heard: "Heard") -> dict[int, Spots]:
        """Where keywords stand, by type, ordered by their ends."""
        places: dict[int, list[tuple[int, int]]] = {}
        data, short = heard.data, heard.short
        clean = data.isascii()
        for number, start, end in heard.keywords or ():
            first, last = short.place(start + 1) - 1, short.place(end) - FOLDED_END
            for meaning in self._meanings[number]:
                word = self._words.get(meaning.word)
                if word is None:
                    word = self._words[meaning.word] = word_of(meaning.word)
                where = ((first, last),) if clean and word.plain else located(word, data, first, last)
                if where:
                    places.setdefault(meaning.type_, []).extend(where)
        for each in places.values():
            each.sort(key=itemgetter(1))
        return {index: Spots([e for _, e in each], [s for s, _ in each]) for index, each in places.items()}


class Heard:
    """The words of one text."""

    __slots__ = ("_excluded", "_spots", "_words", "data", "folded", "keywords", "listed", "named", "short", "surplus")

    def __init__(self, words: Words, data: bytes) -> None:
        self._words, self.data = words, data
        self.folded = folded(data)
        self.short = squeezed(self.folded)
        self.listed: list[Hit] = []
        """Words of lists; starts are those in squeezed text, ends those in folded text."""
        self.surplus = 0
        """Words of lists that were not kept."""
        self.named: set[int] = set()
        """Types of which a keyword stands somewhere."""
        self.keywords: list[_Raw] | None = []
        """None: too many."""
        self._spots: dict[int, Spots] | None = None
        self._excluded: set[int] | None = None

    def spots(self, type_: int) -> Spots | None:
        """Where a type's keywords stand; None when that is to be looked for around each match."""
        if self.keywords is None:
            return None
        if self._spots is None:
            self._spots = self._words.spots(self)
        return self._spots.get(type_, _NONE)

    @property
    def excluded(self) -> set[int]:
        """Types of which an exclusion stands somewhere."""
        if self._excluded is None:
            self._excluded = self._words.excluded(self.short.text)
        return self._excluded


_NONE = Spots([], [])
