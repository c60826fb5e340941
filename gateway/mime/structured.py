"""Structured field values: a head and its parameters (RFC 2045 section 5.1, RFC 2231), comments, transfer encodings.

Tolerant: every value gives an answer, with the defects that were met on the way. Short values are cached, because
``text/plain; charset=utf-8`` is most of the world's mail. Linear time; refuses more than 200 parameters.
"""

import re
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from gateway.mime.charsets import to_text
from gateway.mime.tree import DefectCode
from gateway.mime.words import decode_words, header_text

_CACHED = 200
_MAX_PARAMETERS = 200
_NAME = r"[!#$%&'*+\-.0-9A-Z^_`a-z{|}~]+"
_MEDIA_TYPE = re.compile(rf"({_NAME})/({_NAME})\s*\Z")
_QUOTED = r'"[^"\\]*+(?:\\.[^"\\]*+)*"'
_COMMENT_PIECE = re.compile(rf"{_QUOTED}|[()]|\\.|[^\"()\\]++|[\"\\]", re.DOTALL)
_PARAMETER = re.compile(
    rf';\s*+(?:([^\s=;"]++)\s*+=\s*+({_QUOTED}|"[^"]*+\Z|[^;]*+))?([^;]*+)',
    re.DOTALL,
)
_SECTION = re.compile(r"([^*]+)(?:\*([0-9]{1,3}))?(\*)?\Z")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


class Structured(NamedTuple):
    """A structured value taken apart."""

    head: str
    """What stands before the first ``;``, lower case, without comments."""
    parameters: tuple[tuple[str, str], ...] = ()
    """Lower-case name and decoded value; the RFC 2231 form of a name comes before its plain form."""
    loose: tuple[tuple[str, str], ...] = ()
    """The shorter reading of values that hold spaces without being quoted."""
    defects: tuple[tuple[DefectCode, str], ...] = ()

    def get(self, name: str) -> str | None:
        """The first value of a parameter."""
        for key, value in self.parameters:
            if key == name:
                return value
        return None


def structured(raw: bytes) -> Structured:
    """Take a field value apart (Content-Type, Content-Disposition, Content-Transfer-Encoding)."""
    return _cached(raw) if len(raw) <= _CACHED else _structured(raw)


def media_type(head: str) -> str | None:
    """``type/subtype`` of a head, None when it is malformed."""
    match = _MEDIA_TYPE.match(head)
    return f"{match[1]}/{match[2]}" if match else None


@lru_cache(maxsize=1024)
def _cached(raw: bytes) -> Structured:
    return _structured(raw)


def _structured(raw: bytes) -> Structured:
    text = header_text(raw)
    defects: list[tuple[DefectCode, str]] = []
    if "(" in text:
        text = strip_comments(text)
    head, semicolon, _ = text.partition(";")
    if not semicolon:
        return Structured(head.strip().lower())
    found, loose = _split_parameters(text, len(head), defects)
    return Structured(head.strip().lower(), _assemble(found, defects), tuple(loose), tuple(defects))


def strip_comments(text: str) -> str:
    """Text without its comments (RFC 5322 section 3.2.2), which nest. Quoted strings stay; so does an unclosed one."""
    out: list[str] = []
    depth = 0
    for match in _COMMENT_PIECE.finditer(text):
        piece = match[0]
        if piece == "(":
            depth += 1
        elif piece == ")" and depth:
            depth -= 1
            if not depth:
                out.append(" ")
        elif not depth:
            out.append(piece)
    return text if depth else "".join(out)


def _split_parameters(
    text: str, position: int, defects: list[tuple[DefectCode, str]]
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    found: list[tuple[str, str]] = []
    loose: list[tuple[str, str]] = []
    while match := _PARAMETER.match(text, position):
        position = match.end()
        name, value, rest = match[1], match[2], match[3]
        if rest.strip():
            defects.append((DefectCode.MALFORMED_PARAMETER, (name or "").lower()[:40]))
        if name is None:
            continue
        if len(found) >= _MAX_PARAMETERS:
            defects.append((DefectCode.MALFORMED_PARAMETER, "too many"))
            break
        name = name.lower()
        if value.startswith('"'):
            closed = len(value) > 1 and value.endswith('"') and not match[2].endswith('\\"')
            value = _unquote(value)
            if not closed and not _closed(match[2]):
                defects.append((DefectCode.MALFORMED_PARAMETER, name[:40]))
        else:
            value = value.rstrip()
            first = value.split(None, 1)[0] if value else ""
            if first != value:
                defects.append((DefectCode.MALFORMED_PARAMETER, name[:40]))
                loose.append((name, first))
        found.append((name, value))
    return found, loose


def _closed(quoted: str) -> bool:
    return re.fullmatch(_QUOTED, quoted, re.DOTALL) is not None


def _unquote(value: str) -> str:
    inner = value[1:-1] if len(value) > 1 and value.endswith('"') else value[1:]
    return _ESCAPE.sub(r"\1", inner) if "\\" in inner else inner


def _assemble(found: list[tuple[str, str]], defects: list[tuple[DefectCode, str]]) -> tuple[tuple[str, str], ...]:
    """Join continuations and decode charsets (RFC 2231); drop second values of a name with a defect."""
    plain: dict[str, str] = {}
    extended: dict[str, dict[int, tuple[str, bool]]] = {}
    for name, value in found:
        section = _SECTION.match(name) if "*" in name else None
        if section is None or (section[2] is None and section[3] is None):
            known = plain.setdefault(name, value)
            if known != value and not (name == "charset" and known.lower() == value.lower()):
                defects.append((DefectCode.DUPLICATE_PARAMETER, name[:40]))
            continue
        pieces = extended.setdefault(section[1], {})
        number = int(section[2] or 0)
        if pieces.setdefault(number, (value, bool(section[3]))) != (value, bool(section[3])):
            defects.append((DefectCode.DUPLICATE_PARAMETER, section[1][:40]))
    result = [(name, _join_sections(name, pieces, defects)) for name, pieces in extended.items()]
    result += [(name, value if name == "boundary" else decode_words(value)) for name, value in plain.items()]
    return tuple(result)


def _join_sections(name: str, pieces: dict[int, tuple[str, bool]], defects: list[tuple[DefectCode, str]]) -> str:
    if name == "boundary":  # readers that do not follow RFC 2231 here find no parts
        defects.append((DefectCode.MALFORMED_BOUNDARY, ""))
    numbers = sorted(pieces)
    if numbers != list(range(len(numbers))):
        defects.append((DefectCode.MALFORMED_PARAMETER, name[:40]))
    charset = ""
    out: list[bytes] = []
    for place, number in enumerate(numbers):
        value, encoded = pieces[number]
        if place == 0 and encoded and value.count("'") >= 2:
            charset, _, rest = value.partition("'")
            value = rest.partition("'")[2]
        data = value.encode("utf-8", "surrogateescape")
        out.append(unquote_to_bytes(data) if encoded else data)
    return to_text(b"".join(out), charset)
