"""What the constant expressions of a page's scripts come to: words and files that are put together piece by piece.

Strings joined by ``+`` and ``+=``, by way of names, arrays and ``join``, turned round, from character codes, base64 or
escapes. Refuses to run anything: no loops, no functions, no conditions; tokens, octets and nesting are bounded.
"""

import binascii
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

_QUOTED = rb"%(q)b([^%(q)b\\\n]*+(?:\\[\s\S][^%(q)b\\\n]*+){0,5000})%(q)b?+"
_PATTERN = rb"/(?![*/])(?:\\.|\[(?:\\.|[^\]\\\n]){0,300}\]|[^/\\\n\[]){1,500}/"
"""An expression between slashes: quotes stand in such ones too."""
_TOKEN = re.compile(
    b"|".join(
        (
            _QUOTED % {b"q": b"'"},
            _QUOTED % {b"q": b'"'},
            rb"`([^`\\]*+(?:\\[\s\S][^`\\]*+){0,5000})`?+",
            rb"([A-Za-z_$][\w$]*+)",
            rb"(\d[0-9a-fA-Fx]*+)",
            rb"//[^\n]*+",
            rb"/\*[\s\S]*?(?:\*/|\Z)",
            rb"(?<=[(,=:\[!&|?{};+])" + _PATTERN,
            rb"(?<=[(,=:\[!&|?{};+] )" + _PATTERN,
            rb"(\S)",
        )
    )
)
_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|u00([0-9a-fA-F]{2})|u\{0*([0-9a-fA-F]{1,2})\}|([\s\S]))")
_LETTERS = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"0": b"\0", b"\n": b"", b"\r": b""}
_MOST_TOKENS = 12_000
"""Some 2 µs each; small pages are looked at on the event loop."""
_MOST_OCTETS = 16_000_000
"""Octets of all values that are made on the way."""
_LONGEST = 4_000_000
_SHORTEST = 4
_DEEPEST = 5
_STRING, _NAME, _NUMBER, _SIGN, _END = range(5)


class _Token(NamedTuple):
    kind: int
    value: bytes


_LAST = _Token(_END, b"")


def constants_of(markup: bytes) -> tuple[bytes, ...]:
    """Values of at least four octets that the scripts of an HTML document put together, each once."""
    found: dict[bytes, None] = {}
    left = _MOST_TOKENS
    for source in _scripts(markup):
        tokens = _tokens(source, left)
        left -= len(tokens)
        found.update(dict.fromkeys(_Script(tokens).values()))
        if left <= 0:
            break
    return tuple(found)


def _scripts(markup: bytes) -> Iterator[bytes]:
    """What stands between script tags."""
    small = markup.lower()
    at = small.find(b"<script")
    while at >= 0:
        start = small.find(b">", at) + 1
        if not start:
            return
        end = small.find(b"</script", start)
        yield markup[start : end if end >= 0 else len(markup)]
        at = small.find(b"<script", end) if end >= 0 else -1


def _tokens(source: bytes, most: int) -> list[_Token]:
    tokens: list[_Token] = []
    for match in _TOKEN.finditer(source):
        if len(tokens) >= most:
            break
        group = match.lastindex
        if group:
            kind = _STRING if group <= 3 else group - 3
            value = match[group]
            tokens.append(_Token(kind, _ESCAPE.sub(_unescaped, value) if kind == _STRING and b"\\" in value else value))
    return tokens


def _unescaped(match: re.Match[bytes]) -> bytes:
    digits = match[1] or match[2] or match[3]
    return bytes((int(digits, 16),)) if digits else _LETTERS.get(match[4], match[4])


class _TooMuchError(Exception):
    """More octets than the bound."""


class _Script:
    """One pass over the tokens of one script."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._strings: dict[bytes, bytes] = {}
        self._lists: dict[bytes, list[bytes]] = {}
        self._joined: set[bytes] = set()
        self._found: list[bytes] = []
        self._octets = 0

    def values(self) -> list[bytes]:
        """What was put together, up to where the bound is reached."""
        at = 0
        try:
            while at < len(self._tokens):
                at = max(self._expression(at), at + 1)
        except _TooMuchError:
            pass
        return [
            value
            for value in (*self._found, *map(self._strings.get, self._joined))
            if value and len(value) >= _SHORTEST
        ]

    def _expression(self, at: int) -> int:
        """One expression and what it is assigned to; the place behind it."""
        value, behind = self._sum(at, 0)
        if value is None:
            return at + 1
        name = self._assigned(at)
        if isinstance(value, list):
            if behind - at > 2 * len(value) + 1:  # not just commas between strings
                self._found.extend(value)
            if name:
                self._lists[name] = value
        elif name:
            adds = self._sign(at - 2) == b"+"
            self._strings[name] = self._made(self._strings.get(name, b"") + value) if adds else value
            if adds or behind - at > 1:
                self._joined.add(name)
        elif behind - at > 1:
            self._found.append(value)
        return behind

    def _assigned(self, at: int) -> bytes:
        """The name before ``=`` or ``+=``, if there is one."""
        if self._sign(at - 1) != b"=":
            return b""
        before = self._token(at - 3 if self._sign(at - 2) == b"+" else at - 2)
        return before.value if before.kind == _NAME else b""

    # --- values: a string, a list of strings, None for all else; and the place behind --------------------------------

    def _sum(self, at: int, depth: int) -> tuple[bytes | list[bytes] | None, int]:
        value, at = self._operand(at, depth)
        if not isinstance(value, bytes):
            return value, at
        pieces, size = [value], len(value)
        while self._sign(at) == b"+" and self._sign(at + 1) != b"=":
            more, behind = self._operand(at + 1, depth)
            if not isinstance(more, bytes):
                break
            pieces.append(more)
            size += len(more)
            at = behind
            if size > _LONGEST:
                raise _TooMuchError
        return (self._made(b"".join(pieces)) if len(pieces) > 1 else value), at

    def _operand(self, at: int, depth: int) -> tuple[bytes | list[bytes] | None, int]:
        token = self._token(at)
        value: bytes | list[bytes] | None = None
        behind = at + 1
        if token.kind == _STRING:
            value = token.value
        elif token.kind == _NAME:
            value, behind = self._named(at, depth)
        elif depth < _DEEPEST and token.value == b"[":
            value, behind = self._list(at + 1, depth + 1)
        elif depth < _DEEPEST and token.value == b"(":
            value, behind = self._sum(at + 1, depth + 1)
            if value is not None and self._sign(behind) != b")":
                return None, at
            behind += 1
        while value is not None and self._sign(behind) == b".":
            changed, further = self._method(value, behind + 1, depth)
            if changed is None:
                break
            value, behind = changed, further
        return value, behind

    def _named(self, at: int, depth: int) -> tuple[bytes | list[bytes] | None, int]:
        """A name's value, an element, or a call of one of the functions that are known."""
        name = self._token(at).value
        if name == b"String" and self._sign(at + 1) == b"." and self._token(at + 2).value == b"fromCharCode":
            return self._codes(at + 3)
        if name in _UNPACKERS and self._sign(at + 1) == b"(" and depth < _DEEPEST:
            value, behind = self._sum(at + 2, depth + 1)
            if isinstance(value, bytes) and self._sign(behind) == b")":
                return self._made(_UNPACKERS[name](value)), behind + 1
            return None, at
        if self._sign(at - 1) == b".":
            return None, at
        some = self._lists.get(name)
        return (self._strings.get(name), at + 1) if some is None else self._element(some, at + 1)

    def _element(self, some: list[bytes], at: int) -> tuple[bytes | list[bytes] | None, int]:
        """``[3]`` of a list; the list where nothing like that follows."""
        index = self._token(at + 1)
        if self._sign(at) != b"[" or index.kind != _NUMBER or self._sign(at + 2) != b"]":
            return some, at
        place = _number(index.value)
        return (some[place] if 0 <= place < len(some) else None), at + 3

    def _codes(self, at: int) -> tuple[bytes | None, int]:
        """``(99, 114, …)`` as characters."""
        if self._sign(at) != b"(":
            return None, at
        out = bytearray()
        while (token := self._token(at + 1)).kind == _NUMBER:
            out.append(_number(token.value) & 255)
            at += 2
            if self._sign(at) != b",":
                break
        return (self._made(bytes(out)) if self._sign(at) == b")" else None), at + 1

    def _list(self, at: int, depth: int) -> tuple[list[bytes] | None, int]:
        out: list[bytes] = []
        while True:
            value, behind = self._sum(at, depth)
            if not isinstance(value, bytes):
                return None, at
            out.append(value)
            sign = self._sign(behind)
            if sign == b"]":
                return out, behind + 1
            if sign != b",":
                return None, at
            at = behind + 1

    def _method(self, value: bytes | list[bytes], at: int, depth: int) -> tuple[bytes | list[bytes] | None, int]:
        """``split``, ``reverse``, ``join``, ``concat`` and ``toString`` with constant arguments."""
        name, sign = self._token(at).value, self._sign(at + 1)
        if sign != b"(":
            return None, at
        if self._sign(at + 2) == b")":
            argument: bytes | list[bytes] | None = b"," if name == b"join" else None
            behind = at + 3
        elif depth >= _DEEPEST:
            return None, at
        else:
            argument, behind = self._sum(at + 2, depth + 1)
            if self._sign(behind) != b")" or not isinstance(argument, bytes):
                return None, at
            behind += 1
        return self._called(name, value, argument), behind

    def _called(
        self, name: bytes, value: bytes | list[bytes], argument: bytes | list[bytes] | None
    ) -> bytes | list[bytes] | None:
        if isinstance(value, list):
            if name == b"reverse" and argument is None:
                return value[::-1]
            if name == b"join" and isinstance(argument, bytes):
                self._count(sum(map(len, value)) + len(argument) * len(value))
                return argument.join(value)
            return None
        if name == b"split" and isinstance(argument, bytes):
            self._count(len(value))
            return value.split(argument) if argument else [value[n : n + 1] for n in range(len(value))]
        if name == b"concat" and isinstance(argument, bytes):
            return self._made(value + argument)
        return value if name in (b"toString", b"trim") and argument is None else None

    def _token(self, at: int) -> _Token:
        return self._tokens[at] if 0 <= at < len(self._tokens) else _LAST

    def _sign(self, at: int) -> bytes:
        token = self._token(at)
        return token.value if token.kind == _SIGN else b""

    def _made(self, value: bytes) -> bytes:
        self._count(len(value))
        return value

    def _count(self, octets: int) -> None:
        self._octets += octets
        if self._octets > _MOST_OCTETS or octets > _LONGEST:
            raise _TooMuchError


def _number(raw: bytes) -> int:
    try:
        return int(raw[:12], 16 if raw[:2] in (b"0x", b"0X") else 10)
    except ValueError:
        return -1


def _from_base64(value: bytes) -> bytes:
    try:
        return binascii.a2b_base64(value + b"==")
    except binascii.Error:
        return b""


_UNPACKERS: dict[bytes, Callable[[bytes], bytes]] = {
    b"atob": _from_base64,
    b"unescape": unquote_to_bytes,
    b"decodeURIComponent": unquote_to_bytes,
}
