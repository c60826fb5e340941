"""Other forms in which programs show a text: calendars unfolded, RTF without its controls, markup, uuencoded files.

What stands in such a text may be one to its reader and in pieces in the source. Refuses nothing; what is not in a form
gives nothing. Linear in the input.
"""

import re
from collections.abc import Iterator

from gateway.mime.charsets import to_text
from gateway.mime.decoding import Decoding
from gateway.mime.hypertext import html_to_text
from gateway.mime.tree import Span

_TAG = re.compile(r"<[A-Za-z!/]")
_FOLD = re.compile(r"\r?\n[ \t]")
_ESCAPED = re.compile(r"\\([nN,;\\])")
_RTF = re.compile(r"\\'([0-9A-Fa-f]{2})|\\([_~-])|\\([A-Za-z]{1,32})(-?[0-9]{1,10})? ?|\\(.)|[{}\r\n]+", re.DOTALL)
_RTF_BREAKS = frozenset({"par", "line", "cell", "row", "tab", "sect", "page"})
_UUENCODED = re.compile(rb"(?:\A|\n)begin [0-7]{3,4} \S")
_SNIFFED = 1000


def other_forms(content: str) -> Iterator[str]:
    """The forms of one decoded text besides the text itself."""
    start = content[:_SNIFFED].lstrip("\ufeff \t\r\n")
    if start[:7].upper() == "BEGIN:V":
        yield _ESCAPED.sub(_unescaped, _FOLD.sub("", content))
    elif start.startswith("{\\rtf"):
        yield rtf_to_text(content)
    elif _TAG.search(content):
        yield html_to_text(content)


def uuencoded(data: bytes, cap: int) -> str:
    """The files that stand uuencoded in a text (Outlook shows them as attachments), at most ``cap`` octets of them."""
    if b"begin " not in data or not _UUENCODED.search(data):
        return ""
    out: list[bytes] = []
    size = 0
    for piece in Decoding(data, Span(0, len(data)), "x-uuencode", 65536):
        out.append(piece)
        size += len(piece)
        if size > cap:
            break
    return to_text(b"".join(out)[:cap])


def rtf_to_text(source: str) -> str:
    """RTF without groups and control words; hexadecimal characters read as Windows-1252."""
    return _RTF.sub(_rtf, source)


def _unescaped(match: re.Match[str]) -> str:
    return "\n" if match[1] in "nN" else match[1]


def _rtf(match: re.Match[str]) -> str:
    octet, symbol, word, number, other = match.groups()
    if octet:
        return bytes.fromhex(octet).decode("cp1252", "replace")
    if symbol:
        return {"_": "-", "~": " ", "-": ""}[symbol]
    if word == "u" and number:
        return chr(int(number) % 0x10000) if not 0xD800 <= int(number) % 0x10000 < 0xE000 else "?"
    if word in _RTF_BREAKS:
        return "\n"
    return other if other and other in "\\{}" else ""
