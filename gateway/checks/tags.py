"""Where in an HTML document the tags stand that links and active content are made of: one pass, all of them.

Hyperscan finds the beginnings, an expression reads one tag's attributes. Refuses to look at more tags than
:data:`MOST`: a message with more of them is no letter.
"""

import contextlib
import html as entities
import re
from collections.abc import Iterator
from functools import cache
from itertools import zip_longest
from typing import NamedTuple

import hyperscan

MOST = 3000
"""Tags of one text that are looked at."""
_WINDOW = 8192
"""Octets of one tag at most."""
_OVERLAP = 4
"""So many times the text is looked at for attributes; then a tag that does not close ends where the next one begins."""
NAMES = ("a", "area", "form", "base", "meta", "script", "svg", "embed", "object", "iframe", "input", "/a")
_SCRIPTED = (rb"<[a-z0-9_-]{1,20}:script[\s/>]", rb"javascript:", rb"vbscript:", rb"[\s\"'/]on[a-z]{3,20}\s*=")
_CARRYING = (rb"data\s*[:&]", rb"=\s*[\"']?[\x00-\x20dat]{0,8}&")
"""Signs of scripts and of enclosed files outside the names of tags."""
_QUOTED = rb"""(?:"[^"]*+"|'[^']*+')"""
_ATTRIBUTES = re.compile(rb"[^=>]*+(?:=\s*+(?:%b|(?!%b))[^=>]*+)*>" % (_QUOTED, _QUOTED))
"""Every round has one way to match: it is gone back over once at most."""
_ATTRIBUTE = re.compile(rb"""([^\s"'>/=]+)(?:\s*+=\s*+(?:"([^"]*+)"?|'([^']*+)'?|([^\s"'>]++)))?""")
"""The last value of a tag that is cut counts as far as it goes."""
_END = len(NAMES) - 1
_SCRIPT = NAMES.index("script")
_OF_SCRIPTS, _OF_FILES = len(NAMES), len(NAMES) + 1


class Tag(NamedTuple):
    """One tag."""

    name: str
    start: int
    """Octet behind its name."""
    end: int
    """Octet behind its ``>``."""


class Tags(NamedTuple):
    """The tags of one document in its order, and signs that stand anywhere in it."""

    found: tuple[Tag, ...]
    scripted: bool
    """Scripts, or what runs one."""
    carrying: bool
    """``data:`` in some dress."""


@cache
def _database() -> hyperscan.Database:
    database = hyperscan.Database()
    words = [rb"<" + re.escape(name.encode()) + rb"[\s/>]" for name in NAMES]
    signs = [*_SCRIPTED, *_CARRYING]
    once = hyperscan.HS_FLAG_CASELESS | hyperscan.HS_FLAG_SINGLEMATCH
    database.compile(
        expressions=[*words, *signs],
        ids=[*range(len(NAMES)), *([_OF_SCRIPTS] * len(_SCRIPTED)), *([_OF_FILES] * len(_CARRYING))],
        elements=len(words) + len(signs),
        flags=[hyperscan.HS_FLAG_CASELESS] * len(words) + [once] * len(signs),
    )
    return database


def prepare() -> None:
    """Compile now what :func:`tags_of` needs: a tenth of a second of work, done once in a process."""
    _database()


def tags_of(data: bytes) -> Tags:
    """The tags of a document in an encoding that extends ASCII."""
    seen: list[tuple[int, int]] = []

    def note(name: int, _start: int, stop: int, _flags: int, _context: object) -> bool:
        seen.append((stop, name))
        return len(seen) > MOST

    with contextlib.suppress(hyperscan.ScanTerminated):
        _database().scan(data, match_event_handler=note)
    names = {name for _, name in seen}
    found = _ended(data, [row for row in seen if row[1] < _OF_SCRIPTS])
    return Tags(tuple(found), not names.isdisjoint({_OF_SCRIPTS, _SCRIPT}), _OF_FILES in names)


def _ended(data: bytes, seen: list[tuple[int, int]]) -> Iterator[Tag]:
    """The tags with their ends. Tags that do not close run into each other; no octet is in more than a few of them."""
    spare = _OVERLAP * len(data)
    for (stop, name), following in zip_longest(seen, seen[1:], fillvalue=(len(data), 0)):
        start = stop - 1
        if data[start] == 62 or name == _END:  # no attributes
            yield Tag(NAMES[name], start, stop)
            continue
        limit = start + _WINDOW if spare > 0 else min(start + _WINDOW, following[0])
        whole = _ATTRIBUTES.match(data, start, limit)
        end = whole.end() if whole else _plain_end(data, start, limit)
        spare -= end - start
        yield Tag(NAMES[name], start, end)


def _plain_end(data: bytes, start: int, limit: int) -> int:
    """Of a tag whose quotes do not close: the next ``>``, as browsers that give up do."""
    end = data.find(b">", start, limit)
    return min(len(data), limit) if end < 0 else end + 1


def attributes(data: bytes, tag: Tag) -> dict[str, str]:
    """Names in small letters and values with character references resolved; the first of each name counts."""
    found: dict[str, str] = {}
    for match in _ATTRIBUTE.finditer(data, tag.start, max(tag.start, tag.end - 1)):
        name, quoted, single, bare = match.groups()
        value = (quoted or single or bare or b"").decode("utf-8", "replace")
        found.setdefault(name.decode("latin-1").lower(), entities.unescape(value) if "&" in value else value)
    return found
