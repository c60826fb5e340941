"""Active content in HTML and SVG: files that a script puts together in the reader's program, and forms for passwords.

Facts about a document, for rules. Refuses to run anything, and to call a script by itself bad: saved pages are full of
them. Escapes and broken-up words, as they are used to get past filters, are undone before words are looked for.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from gateway.checks.constants import constants_of
from gateway.checks.hosts import below, target_of
from gateway.checks.tags import Tags, attributes
from gateway.mime.rounds import behind

HTML_SCRIPT = "html-script"
HTML_SMUGGLING = "html-smuggling"
HTML_LOGIN_FORM = "html-login-form"
_MOST = 4 * 1024 * 1024
"""Octets of a document that are looked through."""
_MOST_FIELDS = 300
_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|u00([0-9a-fA-F]{2})|u\{0*([0-9a-fA-F]{1,2})\})|%([0-9a-fA-F]{2})")
_JOINT = re.compile(rb"""["'`]\s*+\+\s*+["'`]""")
_REFERENCE = re.compile(rb"&#(?:x([0-9a-f]{1,4})|(\d{1,4}));?", re.IGNORECASE)
_MAKES_FILE = re.compile(
    rb"createobjecturl|mssaveoropenblob|mssaveblob|showsavefilepicker|new\s+file\s*\(|filesaver|saveas\s*\(",
    re.IGNORECASE,
)
_UNPACKS = re.compile(
    rb"\batob\s*\(|\batob\b['\"\]]|fromcharcode|uint8array|base64|unescape\s*\(|decodeuricomponent|textdecoder"
    rb"|\bblob\s*\(|decompressionstream",
    re.IGNORECASE,
)
_DELIVERS = re.compile(
    rb"\.download\b|setattribute\(\s*['\"]download|\.click\s*\(|dispatchevent|document\.write|innerhtml\s*=|outerhtml"
    rb"|\beval\s*\(|\bfunction\s*\(\s*['\"]|srcdoc|location(?:\.href)?\s*=|location\.(?:replace|assign)|appendchild",
    re.IGNORECASE,
)
_BASE64 = re.compile(rb"[A-Za-z0-9+/]{64,}+")
_NUMBER = rb"(?:(?:0x[0-9a-f]{1,2}|\d{1,3})\s*+,\s*+)"
_NUMBERS = re.compile(_NUMBER + rb"{8}", re.IGNORECASE)
_MORE_NUMBERS = re.compile(_NUMBER + rb"{1,1000}", re.IGNORECASE)
_CALLED = re.compile(rb"^([A-Za-z]{4,30})$", re.MULTILINE)
"""A word that a script has put together, and so calls or asks for by name."""
_MUCH, _MANY = 600, 200
"""Characters of base64 or numbers in a list that hold a file."""
_CARRIER = re.compile(
    r"\s*data:(?!image/(?:png|jpe?g|gif|bmp|webp|x-icon|svg)|audio/|video/|font/|text/plain)", re.IGNORECASE
)
_SENDS = re.compile(
    rb"\bfetch\s*\(|xmlhttprequest|\$\.(?:ajax|post|get)\b|\baxios\b|sendbeacon|emailjs|api\.telegram|new\s+websocket",
    re.IGNORECASE,
)
_COMMENT = re.compile(rb"<!--.*?-->", re.DOTALL)
_ELEMENT = re.compile(rb"<(?:\w{1,20}:)?([a-z]\w{0,20})[\s/>]", re.IGNORECASE)
_BEGINNING = 16_384
"""Octets in which a document's first element stands."""


class ActiveContent(NamedTuple):
    """One fact."""

    code: str
    detail: str
    """A few words for people; never content."""


def active_content(data: bytes, tags: Tags, domains: tuple[str, ...] = ()) -> Iterator[ActiveContent]:
    """Facts about one HTML or SVG document, each code once. ``domains``: the city's own, whose forms are no bait."""
    if tags.scripted:
        yield ActiveContent(HTML_SCRIPT, "a script in HTML")
    reason = _smuggles(data[:_MOST], tags)
    if reason:
        yield ActiveContent(HTML_SMUGGLING, reason)
    if any(tag.name == "input" for tag in tags.found):
        where = _asks_password(data[:_MOST], tags, domains)
        if where:
            yield ActiveContent(HTML_LOGIN_FORM, where)


def _smuggles(data: bytes, tags: Tags) -> str:
    """How a document hands over a file that it carries, in words; ``""`` when it does not."""
    if tags.scripted and _is_drawing(data):
        return "SVG with a script"
    for tag in tags.found if tags.carrying else ():
        if tag.name in ("embed", "object", "iframe", "a") and _may_carry(data, tag.start, tag.end):
            reason = _carries(tag.name, attributes(data, tag))
            if reason:
                return reason
    return _unpacks(data) if tags.scripted else ""


def _unpacks(data: bytes) -> str:
    """How a script puts a file together."""
    code = _undone(data)
    if reason := _unpacked_by(code, data):
        return reason
    made = b"\n".join(constants_of(data))
    return (
        _unpacked_by(b"%b\n%b" % (code, _CALLED.sub(rb"['\1'](.\1(", made)), b"%b\n%b" % (data, made)) if made else ""
    )


def _unpacked_by(code: bytes, data: bytes) -> str:
    if not _UNPACKS.search(code):
        return ""
    if _MAKES_FILE.search(code):
        return "a script that makes a file"
    return "a script that unpacks what it carries" if _DELIVERS.search(code) and _holds_file(data) else ""


def _holds_file(data: bytes) -> bool:
    if any(match.end() - match.start() >= _MUCH for match in _BASE64.finditer(data)):
        return True
    position = 0
    while match := _NUMBERS.search(data, position):
        position = behind(_MORE_NUMBERS, data, match.end())
        if data.count(b",", match.start(), position) >= _MANY:
            return True
    return False


def _may_carry(data: bytes, start: int, end: int) -> bool:
    piece = data[start:end].lower()
    return b"data" in piece or b"&" in piece


def _carries(name: str, found: dict[str, str]) -> str:
    """Why a tag that holds a ``data:`` address gives the reader a file."""
    source = found.get({"a": "href", "object": "data"}.get(name, "src"), "")
    if not _CARRIER.match(source):
        return ""
    if name == "a":
        return "a link to a file within itself" if "download" in found or ";base64" in source.lower() else ""
    return f"<{name}> with its file within"


def _is_drawing(data: bytes) -> bool:
    """True when the first element is ``svg``, whatever comments and declarations stand before it."""
    first = _ELEMENT.search(_COMMENT.sub(b"", data[:_BEGINNING]))
    return first is not None and first[1].lower() == b"svg"


def _undone(data: bytes) -> bytes:
    """Source with escapes resolved and words that were broken up put together."""
    if b"\\" in data or b"%" in data:
        data = _ESCAPE.sub(lambda m: bytes((int(m[1] or m[2] or m[3] or m[4], 16),)), data)
    if b"&#" in data:
        data = _REFERENCE.sub(lambda m: bytes((min(255, int(m[1], 16) if m[1] else int(m[2])),)), data)
    return _JOINT.sub(b"", data)


def _asks_password(data: bytes, tags: Tags, domains: tuple[str, ...]) -> str:
    """Where a password would go that somebody types into the page, in words; ``""`` when nothing asks for one."""
    named = [tag for tag in tags.found if tag.name in ("form", "input")][:_MOST_FIELDS]
    fields = [attributes(data, tag) for tag in named]
    if not any(found.get("type", "").strip().lower() == "password" for found in fields):
        return ""
    own = frozenset(domain.removeprefix("*.") for domain in domains)
    for found in fields:
        host = target_of(found.get("action", "") or found.get("formaction", "")).host
        if host and not below(host, own):
            return f"a form with a password for {host}"
    if any(tag.name == "script" for tag in tags.found) and _SENDS.search(_undone(data)):
        return "a form with a password for a script"
    return ""
