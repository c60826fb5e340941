"""What Hyperscan looks for on behalf of the information types, and the look at the words around a match.

Writes expressions and reads edges; keeps nothing. Refuses nothing: whether Hyperscan can compile an expression is
:mod:`gateway.checks.scanner`'s to say.
"""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import hyperscan
import re2

from gateway.checks.databases import Databases
from gateway.checks.plain import plain_text
from gateway.checks.validators import NUMERIC
from gateway.model.finding import Confidence
from gateway.policy.types import InformationType, Pattern

PATTERN_FLAGS = hyperscan.HS_FLAG_SOM_LEFTMOST
PRESENCE_FLAGS = hyperscan.HS_FLAG_SINGLEMATCH
WIDE_FLAGS = hyperscan.HS_FLAG_CASELESS | hyperscan.HS_FLAG_UTF8
_USUAL_GAP, _GAP = 8, 200
"""White space within a phrase that is looked back over: at first, and at most."""
_FOLD = bytes(c + 32 if 65 <= c <= 90 else c if 48 <= c <= 57 or 97 <= c <= 122 else 32 for c in range(256))
"""Capitals small; all that is neither letter nor digit of ASCII is a space."""
_LONGEST_GAP = 8
SHORT_GAP = b" {1,%d}" % _LONGEST_GAP
"""Between the pieces of a phrase in :func:`squeezed` text."""
_SPACES = re.compile(b" +")
FOLDED_END = 2
"""Folded text has a space in front, and a word is seen to end with the space behind it."""


class Meaning(NamedTuple):
    """What an expression stands for, to one type."""

    type_: int
    """Its place among the scanner's types."""
    pattern: Pattern | None
    """None: a word or keyword."""
    word: str
    """In its plain form."""
    shown: str = ""
    """As the type's file writes it."""
    confidence: Confidence = Confidence.HIGH
    exact: Any = None
    """Compiled ``Pattern.exact``."""
    group: int = 0
    """The group of it that is the value."""
    never: Any = None
    """Compiled ``Pattern.never``."""
    numeric: bool = False
    """True: the digits of a match alone are its value."""
    presence: bool = False
    """True: only whether it occurs is asked, so that texts without it cost nothing more."""
    exclusion: bool = False
    whole: re.Pattern[str] | None = None
    """The word in decoded text: any white space between its pieces, no letter beside it."""
    size: int = 0
    """Octets of the word."""
    tail: int = 0
    """Octets of it behind its last letter or digit of ASCII, which folded text does not show («C++»)."""

    @property
    def written(self) -> str:
        """What the administrator wrote."""
        return self.pattern.regex if self.pattern else self.shown


class Source(NamedTuple):
    """One expression as Hyperscan reads it."""

    expression: bytes
    flags: int
    folded: bool = False
    """True: looked for in :func:`folded` text."""


def sources_of(index: int, type_: InformationType) -> Iterator[tuple[Source, Meaning]]:
    """Everything that Hyperscan looks for on behalf of one type."""
    for pattern in type_.patterns:
        exact = re2.compile(pattern.exact.encode()) if pattern.exact else None
        group = 1 if exact is not None and exact.groups else 0
        never = re2.compile(f"(?i)(?:{'|'.join(pattern.never)})".encode()) if pattern.never else None
        yield (
            Source(_expression(pattern), PATTERN_FLAGS),
            Meaning(index, pattern, "", exact=exact, group=group, never=never, numeric=pattern.validator in NUMERIC),
        )
    lists = ((type_.words, type_.word_confidence), *((row.words, row.confidence) for row in type_.word_lists))
    for words, confidence in lists:
        for word in words:
            for form in forms_of(word):
                source = source_of(form, 0, SHORT_GAP)
                octets = form.encode()
                tail = len(octets) - len(folded(octets)[1:-1].rstrip()) if source.folded else 0
                yield (
                    source,
                    Meaning(index, None, form, word, confidence, whole=_whole(form), size=len(octets), tail=tail),
                )
    for word in (*type_.keywords, *type_.exclusions, *type_.doubts) if type_.patterns else ():
        only_excludes = word not in type_.keywords
        for form in forms_of(word):
            source = source_of(form, PRESENCE_FLAGS, SHORT_GAP)
            if source.folded and not only_excludes:
                source = source._replace(flags=PATTERN_FLAGS)  # where they stand is asked as well
            yield source, Meaning(index, None, form, word, presence=True, exclusion=only_excludes)


def has_own_line(pattern: Pattern | None) -> bool:
    """Whether only matches count that have a line or a paragraph of their own."""
    return pattern is not None and pattern.edges in _ALONE


def _expression(pattern: Pattern) -> bytes:
    """The pattern between its edges, as far as Hyperscan can see these."""
    inner = b"(?:" + pattern.regex.encode("ascii") + b")"
    if pattern.edges in _ALONE:
        before, behind = _ALONE[pattern.edges]
        return before + rb"[ \t>\"'(|*]{0,8}" + inner + rb"[ \t\"')|*,;.]{0,8}" + behind
    return rb"(?:\b|_)" + inner + (rb"" if pattern.exact or pattern.edges == "start" else rb"(?:\b|_)")


_ALONE = {
    "line": (rb"(?:^|\n)", rb"(?:\r?\n|\z)"),
    "paragraph": (rb"(?:^[ \t\r\n]{0,8}|\n[ \t]{0,8}\r?\n)", rb"(?:\r?\n[ \t]{0,8}(?:\r?\n|\z)|\z)"),
}
MARGIN = b" \t\r\n>\"'(|*),;."
"""What may stand beside a match that is alone."""


def folded(data: bytes) -> bytes:
    """The text as small letters, digits and spaces, octet for octet, with one space more at either end."""
    return b" %b " % data.translate(_FOLD)


class Squeezed(NamedTuple):
    """Folded text without long gaps."""

    text: bytes
    cuts: list[int]
    """Where in it something was left out."""
    gone: list[int]
    """How much up to there."""

    def place(self, offset: int) -> int:
        """The same place in the text before."""
        at = bisect_right(self.cuts, offset) - 1
        return offset + self.gone[at] if at >= 0 else offset


class _LongGaps:
    """Finds gaps that are too long, in texts that are full of short ones: what ``re`` and ``in`` are slow at."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._database = hyperscan.Database()
        self._database.compile(expressions=[b"[^ ] {%d}" % (_LONGEST_GAP + 1)], ids=[0], elements=1, flags=[0])

    def _note(self, _id: int, _start: int, stop: int, _flags: int, _context: object) -> None:
        self._starts.append(stop - _LONGEST_GAP - 1)

    def __call__(self, text: bytes) -> Iterator[tuple[int, int]]:
        """Where each begins and ends."""
        self._starts = [0] if text.startswith(b" " * (_LONGEST_GAP + 1)) else []
        self._database.scan(text, match_event_handler=self._note)
        for start in self._starts:
            found = _SPACES.match(text, start)
            assert found is not None  # that is what was looked for
            yield found.span()


_long_gaps = _LongGaps()


def squeezed(text: bytes) -> Squeezed:
    """Folded text in which no gap is longer than the expressions of words allow."""
    pieces, cuts, gone = [], [], []
    kept = begin = lost = 0
    for start, stop in _long_gaps(text):
        end = start + _LONGEST_GAP
        pieces.append(text[begin:end])
        kept, begin = kept + end - begin, stop
        lost += begin - end
        cuts.append(kept)
        gone.append(lost)
    if not cuts:
        return Squeezed(text, cuts, gone)
    pieces.append(text[begin:])
    return Squeezed(b"".join(pieces), cuts, gone)


def place_of(meaning: Meaning, data: bytes, end: int) -> tuple[int, int] | None:
    """Where the word stands that was seen to end at ``end``; None: what stands there is another one («sealé»)."""
    if meaning.whole is None:
        return None
    for gap in (_USUAL_GAP, _GAP):
        first = max(0, end - meaning.size - gap)
        ahead = data[first:end].decode("utf-8", "ignore")
        text = ahead + data[end : end + 4].decode("utf-8", "ignore")[:1]
        for found in meaning.whole.finditer(text):
            if found.end() == len(ahead):
                return end - len(found[0].encode()), end
    return None


def source_of(form: str, flags: int, gap: bytes = b" +") -> Source:
    """Words with letters or digits of ASCII are looked for in folded text; others as they are.

    ``gap``: between pieces. Bounded ones are more than twice as fast (:func:`squeezed` makes them enough).
    """
    pieces = folded(form.encode()).split()
    if pieces:
        return Source(b" " + gap.join(pieces) + b" ", flags, folded=True)
    return Source(r"\s+".join(map(_quoted, form.split())).encode(), flags | WIDE_FLAGS)


def forms_of(word: str) -> list[str]:
    """The forms in which a word may be written, accents composed or apart."""
    if word.isascii():
        return [word]
    return list(dict.fromkeys(plain_text(unicodedata.normalize(form, word)) for form in ("NFC", "NFD")))


def _whole(word: str) -> re.Pattern[str]:
    inner = r"\s+".join(re.escape(piece) for piece in word.split())
    first = r"(?<!\w)" if word[0].isalnum() else ""
    last = r"(?!\w)" if word[-1].isalnum() else ""
    return re.compile(f"{first}{inner}{last}", re.IGNORECASE)


def _quoted(piece: str) -> str:
    return "".join(c if c.isalnum() or not c.isascii() else f"\\{c}" for c in piece)


def database_of(
    sources: Sequence[Source], ids: Sequence[int], databases: Databases | None = None
) -> hyperscan.Database:
    """One database of all, among ``databases``. Raises :class:`hyperscan.error`."""
    expressions, flags = [source.expression for source in sources], [source.flags for source in sources]
    return (databases or Databases()).of(expressions, flags, ids)


def continues(outward: bytes, edges: str) -> bool:
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
