"""What Hyperscan looks for on behalf of the information types, and the look at the words around a match.

Writes expressions and reads edges; keeps nothing. Refuses nothing: whether Hyperscan can compile an expression is
:mod:`gateway.checks.scanner`'s to say.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import hyperscan
import re2

from gateway.checks.plain import plain_text
from gateway.model.finding import Confidence
from gateway.policy.types import InformationType, Pattern

PATTERN_FLAGS = hyperscan.HS_FLAG_SOM_LEFTMOST
PRESENCE_FLAGS = hyperscan.HS_FLAG_CASELESS | hyperscan.HS_FLAG_SINGLEMATCH
WORD_FLAGS = hyperscan.HS_FLAG_CASELESS
"""Without the start of the match: keeping it makes thousands of words compile for a quarter of a minute."""
WIDE_WORD_FLAGS = WORD_FLAGS | hyperscan.HS_FLAG_UTF8
_GAP = 200
"""White space between the words of a phrase that is looked back over."""


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
    never: Any = None
    """Compiled ``Pattern.never``."""
    presence: bool = False
    """True: only whether it occurs is asked, so that texts without it cost nothing more."""
    exclusion: bool = False

    @property
    def written(self) -> str:
        """What the administrator wrote."""
        return self.pattern.regex if self.pattern else self.shown


class Source(NamedTuple):
    """One expression as Hyperscan reads it."""

    expression: bytes
    flags: int


def sources_of(index: int, type_: InformationType) -> Iterator[tuple[Source, Meaning]]:
    """Everything that Hyperscan looks for on behalf of one type."""
    for pattern in type_.patterns:
        behind = rb"" if pattern.exact or pattern.edges == "start" else rb"(?:\b|_)"
        expression = rb"(?:\b|_)(?:" + pattern.regex.encode("ascii") + rb")" + behind
        exact = re2.compile(pattern.exact.encode()) if pattern.exact else None
        never = re2.compile(f"(?i)(?:{'|'.join(pattern.never)})".encode()) if pattern.never else None
        yield Source(expression, PATTERN_FLAGS), Meaning(index, pattern, "", exact=exact, never=never)
    lists = ((type_.words, type_.word_confidence), *((row.words, row.confidence) for row in type_.word_lists))
    for words, confidence in lists:
        for word in words:
            for form, flags in _forms(word):
                yield Source(_whole(form), flags), Meaning(index, None, form, word, confidence)
    for word in (*type_.keywords, *type_.exclusions) if type_.patterns else ():
        only_excludes = word not in type_.keywords
        meaning = Meaning(index, None, word, word, presence=True, exclusion=only_excludes)
        yield Source(_presence(plain_text(word)), PRESENCE_FLAGS), meaning


def _presence(word: str) -> bytes:
    """An expression that matches wherever :func:`spoken` does, and sometimes elsewhere, but compiles fast."""
    inner = r"[\W_]+".join("".join(_quoted(c) if c.isascii() else ".{1,6}" for c in piece) for piece in word.split())
    return f"(?:^|[^0-9A-Za-z]){inner}(?:$|[^0-9A-Za-z])".encode()


def _forms(word: str) -> list[tuple[str, int]]:
    """The forms in which a word may be written, accents composed or apart, with the flags that each needs."""
    if word.isascii():
        return [(word, WORD_FLAGS)]
    forms = [plain_text(unicodedata.normalize(form, word)) for form in ("NFC", "NFD")]
    return [(form, WORD_FLAGS if form.isascii() else WIDE_WORD_FLAGS) for form in dict.fromkeys(forms)]


def _whole(word: str) -> bytes:
    """Any white space between; Hyperscan knows word boundaries in ASCII only, so the edges are looked at again."""
    inner = r"\s+".join(_quoted(piece) for piece in word.split())
    first = r"\b" if word.isascii() and word[0].isalnum() else ""
    last = r"\b" if word.isascii() and word[-1].isalnum() else ""
    return f"{first}{inner}{last}".encode()


def _quoted(piece: str) -> str:
    return "".join(c if c.isalnum() or not c.isascii() else f"\\{c}" for c in piece)


def spoken(words: Sequence[str]) -> re.Pattern[str] | None:
    """One expression for words in running text, longest first; None for no words."""
    if not words:
        return None
    forms = {plain_text(form) for word in words for form in (word, unicodedata.normalize("NFD", word))}
    sources = []
    for word in sorted(forms, key=lambda w: (-len(w), w)):
        inner = r"[\W_]+".join(re.escape(piece) for piece in word.split())
        first = r"(?<![^\W_])" if word[0].isalnum() else ""
        last = r"(?![^\W_])" if word[-1].isalnum() else ""
        sources.append(f"{first}{inner}{last}")
    return re.compile("|".join(sources), re.IGNORECASE)


def before(words: re.Pattern[str], text: str, reach: int) -> tuple[bool, bool]:
    """Whether one of the words stands in the text before a match, and whether one introduces it.

    Introducing: it ends within ``reach`` characters of the match, no digit between.
    """
    near = False
    for found in words.finditer(text):
        near = True
        between = text[found.end() :]
        if len(between) <= reach and not any(c.isdigit() for c in between):
            return True, True
    return near, False


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


def start_of(word: str, data: bytes, end: int) -> int:
    """Where a word that ends at ``end`` begins: its pieces and the white space between them, backwards."""
    start = end
    for n, piece in enumerate(reversed(word.split())):
        if n:
            start = len(data[max(0, start - _GAP) : start].rstrip()) + max(0, start - _GAP)
        start -= len(piece.encode())
    return max(0, start)


def is_whole(word: str, data: bytes, start: int, end: int) -> bool:
    """True when no letter beyond ASCII continues the word on either side."""
    if word[0].isalnum() and _is_letter(data[max(0, start - 4) : start].decode("utf-8", "ignore")[-1:]):
        return False
    return not (word[-1].isalnum() and _is_letter(data[end : end + 4].decode("utf-8", "ignore")[:1]))


def _is_letter(character: str) -> bool:
    """True for what continues a word."""
    return character.isalnum() or character == "_"
