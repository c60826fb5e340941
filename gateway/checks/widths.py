"""How long a match of an expression can be: what says that a piece of a text is enough to find it in.

Reads the syntax that patterns use; an upper bound, not the exact number. Refuses nothing: what it cannot bound, or
cannot read, may be of any length.
"""

import re

_ATOM = re.compile(rb"\\x[0-9A-Fa-f]{2}|\\x\{[^}]*\}|\\.|\[\^?\]?(?:\\.|\[:\^?\w+:\]|[^\]\\])*\]|[^()|]", re.DOTALL)
_OPENING = re.compile(rb"\((?:\?[a-zA-Z-]*:|\?<\w+>|(?!\?))")
_FLAGS = re.compile(rb"\(\?[a-zA-Z-]+\)")
_REPEATED = re.compile(rb"(?:([*+])|(\?)|\{(\d+)\}|\{(\d*),(\d*)\})[?+]?")
_MOST = 1 << 20


class _UnboundedError(Exception):
    """There is no bound, or none that can be read."""


def longest(expression: bytes) -> int | None:
    """Octets that a match has at most; None: any number."""
    try:
        width, at = _alternatives(expression, 0)
    except _UnboundedError:
        return None
    return width if at == len(expression) else None


def _alternatives(expression: bytes, at: int) -> tuple[int, int]:
    """Width of the alternatives that begin there, and where they end: at a closing bracket or the expression's end."""
    width, at = _sequence(expression, at)
    while expression[at : at + 1] == b"|":
        other, at = _sequence(expression, at + 1)
        width = max(width, other)
    return width, at


def _sequence(expression: bytes, at: int) -> tuple[int, int]:
    total = 0
    while at < len(expression) and expression[at] not in b"|)":
        if flags := _FLAGS.match(expression, at):
            at = flags.end()
            continue
        if expression[at] == 0x28:
            opening = _OPENING.match(expression, at)
            if opening is None:
                raise _UnboundedError
            width, at = _alternatives(expression, opening.end())
            if expression[at : at + 1] != b")":
                raise _UnboundedError
            at += 1
        else:
            atom = _ATOM.match(expression, at)
            if atom is None or atom[0][:2] in (b"\\Q", b"\\R", b"\\X", b"\\p", b"\\P"):
                raise _UnboundedError
            width, at = 1, atom.end()
        times, at = _times(expression, at)
        total += width * times
        if total > _MOST:
            raise _UnboundedError
    return total, at


def _times(expression: bytes, at: int) -> tuple[int, int]:
    """How often what stands before may occur, and where that has been said."""
    found = _REPEATED.match(expression, at)
    if found is None:
        return 1, at
    endless, once, exactly, least, most = found.groups()
    if endless or (least is not None and not most):
        raise _UnboundedError
    return 1 if once else int(exactly or most), found.end()
