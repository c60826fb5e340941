"""Files that stand in something else under an encoding without a name: lines of base64, literals in scripts.

Gives the octets that a lenient program, or the script itself, would make of them. Refuses nothing; what is in no such
form gives nothing. Linear in the input.
"""

import binascii
import re
from collections.abc import Iterator
from typing import NamedTuple

from gateway.checks.constants import constants_of
from gateway.mime.decoding import Decoding
from gateway.mime.rounds import behind
from gateway.mime.tree import Buffer, Span

_CHUNK = 65_536
_ALPHABET = rb"[A-Za-z0-9+/]"
_REST = rb"={0,2}[ \t]*+\r?+(?=\n|\Z)"
_ODD_REST = rb"={0,2}[ \t\0]*+(?:[\r\n]++|\Z)"


class Repeated(NamedTuple):
    """What begins with something, and goes on for any number of rounds (:mod:`gateway.mime.rounds`)."""

    first: re.Pattern[bytes]
    more: re.Pattern[bytes]

    def spans(self, buffer: Buffer, position: int = 0, end: int | None = None) -> Iterator[Span]:
        """All of them between two offsets. The first one's group 1, where it has one, is where a span starts."""
        stop = len(buffer) if end is None else end
        while match := self.first.search(buffer, position, stop):
            position = behind(self.more, buffer, match.end(), stop)
            yield Span(match.start(self.first.groups), position)


RUN = Repeated(
    re.compile(rb"\n[ \t>]*+(%b{60,}+%b)" % (_ALPHABET, _REST)),
    re.compile(rb"(?:\n%b++%b){1,1000}" % (_ALPHABET, _REST)),
)
"""Lines of nothing but base64, the first of them long."""
SHORT_RUN = Repeated(
    re.compile(rb"[\r\n][ \t>]*+(%b{16,}+%b)" % (_ALPHABET, _ODD_REST)),
    re.compile(rb"(?:%b++%b){1,1000}" % (_ALPHABET, _ODD_REST)),
)
"""The same for mail that is odd anyway: shorter lines, ended by whatever."""
RUN_AHEAD = re.compile(rb"\n[ \t>]*+[A-Za-z0-9+/]{60}")
"""Whether a look for :data:`RUN` is worth it."""
_LITERAL = re.compile(rb"[\"'`]([A-Za-z0-9+/_\-]{64,}+={0,2})[\"'`]")
_PLUS = re.compile(rb"[\"'`]\s*+\+\s*+[\"'`]")
_COMMA = re.compile(rb"[\"'`]\s*+,\s*+[\"'`]")
_NUMBER = re.compile(rb"(?:0[xX][0-9A-Fa-f]{1,2}|[0-9]{1,3})")
_NUMBERS = Repeated(
    re.compile(rb"(?:%b\s*+,\s*+){31}%b" % (_NUMBER.pattern, _NUMBER.pattern)),
    re.compile(rb"(?:\s*+,\s*+%b){1,1000}" % _NUMBER.pattern),
)
_ESCAPES = tuple(
    Repeated(re.compile(rb"(?:%b){32}" % escape), re.compile(rb"(?:%b){1,1000}" % escape))
    for escape in (rb"\\x[0-9A-Fa-f]{2}", rb"\\u00[0-9A-Fa-f]{2}", rb"%[0-9A-Fa-f]{2}")
)
_HEX = re.compile(rb"[0-9A-Fa-f]*\Z")
_DATA_URL = Repeated(
    re.compile(rb";base64,([A-Za-z0-9+/_\-\s]|%[0-9A-Fa-f]{2})", re.IGNORECASE),
    re.compile(rb"(?:[A-Za-z0-9+/_\-\s]++|%[0-9A-Fa-f]{2}){1,1000}"),
)
_IS_BASE64 = re.compile(rb"[A-Za-z0-9+/_\-]++={0,2}\Z")
_SHORTEST_FILE = 16
"""Octets of what a script puts together."""
_SCRIPTED = (b"<script", b"javascript:", b"<svg", b"onload")
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_NO_BASE64 = bytes(set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"))


def lenient_base64(data: bytes) -> bytes:
    """Whatever of it is base64, decoded as if the rest were not there, white space and padding too."""
    pure = data.translate(None, _NO_BASE64)
    return binascii.a2b_base64(pure[: len(pure) - (len(pure) % 4 == 1)] + b"==")


def readings_of_base64(buffer: Buffer, span: Span) -> Iterator[Iterator[bytes]]:
    """A body of damaged base64 as different programs decode it: anew after padding, up to it, past it, for URLs."""
    yield Decoding(buffer, span, "base64", _CHUNK)
    end = buffer.find(b"=", span.start, span.end)
    if end >= 0:
        stop = end
        while stop < span.end and buffer[stop] == 61:
            stop += 1
        yield Decoding(buffer, Span(span.start, stop), "base64", _CHUNK)
        yield iter((lenient_base64(bytes(buffer[span.start : span.end])),))
    if buffer.find(b"-", span.start, span.end) >= 0 or buffer.find(b"_", span.start, span.end) >= 0:
        raw = bytes(buffer[span.start : span.end])
        yield iter((lenient_base64(raw.translate(_URL_SAFE)),))


def runs(buffer: Buffer, span: Span, pattern: Repeated = RUN) -> Iterator[Iterator[bytes]]:
    """What lines of base64 in the middle of something else decode to. The line before the span has ended."""
    for found in pattern.spans(buffer, max(span.start - 1, 0), span.end):
        if found.size >= 24:
            yield Decoding(buffer, found, "base64", _CHUNK)


def smuggled(markup: bytes) -> Iterator[bytes]:
    """Files in the strings and lists of a page's scripts, and in data: addresses (HTML smuggling)."""
    small = markup.lower()
    if b";base64," in small:
        for start, end in _DATA_URL.spans(markup):
            coded = re.sub(rb"%2[bB]", b"+", markup[start:end])
            yield lenient_base64(coded.replace(b"%2F", b"/").replace(b"%2f", b"/"))
    if not any(mark in small for mark in _SCRIPTED):
        return
    texts = dict.fromkeys((markup, _PLUS.sub(b"", markup), _COMMA.sub(b"", markup)))
    for text in texts:
        for match in _LITERAL.finditer(text):
            literal = match[1]
            yield lenient_base64(literal.translate(_URL_SAFE))
            if len(literal) % 2 == 0 and _HEX.match(literal):
                yield bytes.fromhex(literal.decode("ascii"))
    yield from _built(markup)
    for start, end in _NUMBERS.spans(markup):
        numbers = _NUMBER.findall(markup, start, end)
        yield bytes(int(number, 16 if number[:2] in (b"0x", b"0X") else 10) & 255 for number in numbers)
    for escapes in _ESCAPES:
        for start, end in escapes.spans(markup):
            yield bytes.fromhex(re.sub(rb"\\u00|\\x|%", b"", markup[start:end]).decode("ascii"))


def _built(markup: bytes) -> Iterator[bytes]:
    """What the page's scripts put together out of pieces."""
    for value in constants_of(markup):
        if len(value) >= _SHORTEST_FILE:
            yield lenient_base64(value.translate(_URL_SAFE)) if _IS_BASE64.match(value) else value
