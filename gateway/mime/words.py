"""Header text: unfolding (RFC 5322 section 2.2.3) and encoded words (RFC 2047), tolerant and in linear time.

Refuses nothing; what cannot be decoded stays as it stands.
"""

import binascii
import re

from gateway.mime.charsets import to_text
from gateway.mime.decoding import Decoding
from gateway.mime.tree import Span

_LINE_END = re.compile(r"\r\n|[\r\n]")
_WORD = re.compile(r"=\?([^?\s]*)\?([bBqQ])\?([^?]*)\?=")


def header_text(raw: bytes) -> str:
    """Octets of a field value as text on one line: unfolded, white space at the ends removed; UTF-8, else Latin-1."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    if "\n" in text:
        text = text.replace("\r\n", "").replace("\n", "")
    return text.strip(" \t\r")


def decode_words(text: str) -> str:
    """Text with its encoded words decoded.

    White space between two adjacent words vanishes (RFC 2047 section 6.2). Adjacent words of one charset are joined
    before they are decoded, because many senders break them inside a character. Line ends that stand in the text or in
    a word become spaces: readers show a field on one line, and an expression's dot should not stop there.
    """
    return _LINE_END.sub(" ", _decoded(text))


def _decoded(text: str) -> str:
    if "=?" not in text:
        return text
    out: list[str] = []
    pending: list[bytes] = []
    charset, position = "", 0
    for match in _WORD.finditer(text):
        gap = text[position : match.start()]
        this = match[1].partition("*")[0].lower()  # RFC 2231 section 5: charset*language
        adjacent = bool(pending) and not gap.strip(" \t")
        if pending and not (adjacent and this == charset):
            out.append(to_text(b"".join(pending), charset))
            pending = []
        if not adjacent:
            out.append(gap)
        pending.append(_word_octets(match[2], match[3]))
        charset, position = this, match.end()
    if pending:
        out.append(to_text(b"".join(pending), charset))
    out.append(text[position:])
    return "".join(out)


def _word_octets(encoding: str, payload: str) -> bytes:
    data = payload.encode("utf-8", "surrogateescape")
    if encoding in "qQ":
        return binascii.a2b_qp(data, header=True)
    try:
        return binascii.a2b_base64(data.rstrip(b"=") + b"===")
    except binascii.Error:  # one character too many, or foreign ones: read like a body in which they stand
        return b"".join(Decoding(data, Span(0, len(data)), "base64", 65536))
