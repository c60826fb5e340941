"""A held message, opened for who may read it: its text, its HTML made harmless, its attachments as facts.

Refuses to hand on what a browser would run, load or follow: of HTML only structure and words are left (nh3), no script,
style, picture, form, link target or anything else that reaches out; link targets are listed as text. Everything here is
bounded, and nothing raises for what a message holds.
"""

import asyncio
import hashlib
import re
import unicodedata
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import quote

import nh3

from gateway.console.pages.words import harmless
from gateway.console.pages.words import size as in_words
from gateway.hold import HeldItem, Hold
from gateway.mime import decoding
from gateway.mime.fields import part_field
from gateway.mime.hypertext import html_to_text
from gateway.mime.parser import parse
from gateway.mime.tree import Message, Part
from gateway.spool import Spool, SpooledMessage

TEXT_CAP = 200_000
"""Octets of a body that are shown; people decide on the beginning, the rest is a download away."""
HTML_CAP = 500_000
"""Octets of HTML that are made harmless."""
MOST_TAGS = 10_000
"""Of them the browser's reading is imitated, whose time grows with the square of open elements."""
MOST_PARTS = 200
MOST_LINKS = 100
_HEADERS = ("from", "sender", "reply-to", "to", "cc", "date", "message-id")
_SPELLED = {"message-id": "Message-ID", "cc": "Cc"}
_TAGS = re.findall(
    r"\w+",
    "a abbr b blockquote br caption cite code dd del div dl dt em h1 h2 h3 h4 h5 h6 hr i ins kbd li mark ol p pre q s "
    "samp small span strike strong sub sup table tbody td tfoot th thead tr u ul var",
)
_DROPPED = frozenset({"script", "style", "title", "template", "noscript", "iframe", "object", "applet", "svg", "math"})
_ATTRIBUTES = {"td": {"colspan", "rowspan"}, "th": {"colspan", "rowspan"}}
_SPANS = frozenset({"colspan", "rowspan"})
_NUMBER = re.compile(r"\A[1-9][0-9]?\Z")
_FRAME_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:1rem;overflow-wrap:anywhere}"
    "table{border-collapse:collapse;max-width:100%}td,th{border:1px solid #ccd;padding:.25rem .5rem;text-align:left}"
    "a{color:#12527c;text-decoration:underline}"
    "blockquote{margin-left:.5rem;padding-left:.75rem;border-left:3px solid #ccd}"
)
FRAME_POLICY = (
    f"default-src 'none'; style-src 'sha256-{b64encode(hashlib.sha256(_FRAME_STYLE.encode()).digest()).decode()}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'; sandbox"
)
"""Content-Security-Policy of the frame: nothing is loaded, run, submitted or followed."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """One part that is not the body, as facts."""

    path: str
    """Names the part in the message (as in IMAP)."""
    name: str
    """As the message says, harmless to look at; ``""`` when it has none."""
    media_type: str
    size: str
    """When decoded, about."""
    inside: str = ""
    """Name of the attached message that it lies in."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What may be shown of a message."""

    headers: tuple[tuple[str, str], ...]
    """Names and values of the header fields that people look at."""
    text: str
    """The plain text; that of the HTML when there is no other."""
    cut: bool
    """There is more text than is shown."""
    has_html: bool
    made_from_html: bool
    """``text`` was made from the HTML."""
    links: tuple[str, ...]
    """Where links in the HTML lead, as text."""
    attachments: tuple[Attachment, ...]
    more: int
    """Attachments that are not listed."""


async def fetch(hold: Hold, spool: Spool, item: HeldItem) -> SpooledMessage:
    """The stored message in the spool; the caller closes it. The view has been recorded. Raises Damaged, StoreError."""
    await asyncio.to_thread(spool.prepare)
    writer = spool.new(f"view-{item.message.id}")
    try:
        await hold.body(item, writer.write)
    except BaseException:
        writer.abort()
        raise
    return writer.close()


def read(message: SpooledMessage) -> Opened:
    """What may be shown. CPU-bound: call it in a thread."""
    tree = parse(message.buffer)
    plain, markup, others = _sorted(tree)
    text, cut = _text(message, plain) if plain else ("", False)
    html, html_cut = _html(message, markup) if markup else ("", False)
    if not plain and markup:
        text, cut = html_to_text(html), html_cut
    listed = tuple(_attachment(message, part, inside) for part, inside in others[:MOST_PARTS])
    return Opened(
        headers=tuple(_headers(message, tree.root)),
        text=harmless(text.replace("\r\n", "\n").replace("\r", "\n"), lines=True),
        cut=cut,
        has_html=bool(markup),
        made_from_html=bool(markup) and not plain,
        links=links(html) if markup else (),
        attachments=listed,
        more=len(others) - len(listed),
    )


def frame(message: SpooledMessage) -> str:
    """The message's HTML as a whole document that does nothing; serve it with :data:`FRAME_POLICY`. CPU-bound."""
    _, markup, _ = _sorted(parse(message.buffer))
    body = sanitised(_html(message, markup)[0]) if markup else "<p>This message has no HTML.</p>"
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>The message</title>'
    return f'<!doctype html><html lang="und"><head>{head}<style>{_FRAME_STYLE}</style></head><body>{body}</body></html>'


def sanitised(html: str) -> str:
    """HTML with structure and words alone; links lead nowhere."""
    return nh3.clean(
        html,
        tags=set(_TAGS),
        clean_content_tags=set(_DROPPED),
        attributes=_ATTRIBUTES,
        attribute_filter=lambda _tag, name, value: (
            value if name in ("colspan", "rowspan") and value.isdigit() else None
        ),
        link_rel=None,
        strip_comments=True,
    )


def links(html: str) -> tuple[str, ...]:
    """Targets of the links, in their order, each once, harmless to look at."""
    found: dict[str, None] = {}

    def note(tag: str, name: str, value: str) -> None:
        if tag == "a" and name == "href" and len(found) < MOST_LINKS and not value.startswith("#"):
            found[harmless(value.strip()[:500])] = None

    nh3.clean(html, tags={"a"}, attributes={"a": {"href"}}, attribute_filter=note, link_rel=None, url_schemes=_SCHEMES)
    return tuple(found)


_SCHEMES = {
    "http",
    "https",
    "mailto",
    "ftp",
    "tel",
    "sms",
    "file",
    "data",
    "javascript",
    "cid",
    "callto",
    "geo",
    "blob",
}


def part_at(message: SpooledMessage, path: str) -> Part | None:
    """The part that an attachment's path names: a place in the tree of this message, never a file."""
    _, _, others = _sorted(parse(message.buffer))
    return next((part for part, _ in others if part.path == path), None)


def octets(message: SpooledMessage, part: Part) -> Iterator[bytes]:
    """The decoded attachment, in pieces."""
    return decoding.decode(message.buffer, part, 262_144)


def file_name(part: Part) -> str:
    """A name for the downloaded file: no folder, no character that is not seen or means something to a shell."""
    name = PurePosixPath(part.filename.replace("\\", "/")).name if part.filename else ""
    name = unicodedata.normalize("NFC", name)
    kept = "".join(c if c.isprintable() and c not in "<>:\"/\\|?*%;`$&'" else "_" for c in name)
    kept = kept.lstrip(". ").rstrip(". ")[-120:].lstrip(". ")
    return kept or f"part-{part.path.replace('.', '-')}.bin"


def disposition(name: str) -> str:
    """Content-Disposition for a download (RFC 6266), with an ASCII name for old programs."""
    ascii_name = "".join(c if c.isascii() and (c.isalnum() or c in " ._-()[]") else "_" for c in name)
    return f"attachment; filename=\"{ascii_name}\"; filename*=UTF-8''{quote(name, safe='')}"


def _sorted(tree: Message) -> tuple[list[Part], list[Part], list[tuple[Part, str]]]:
    """The body's plain texts, its HTML texts, and all other leaves with the attached message that they lie in."""
    plain: list[Part] = []
    markup: list[Part] = []
    others: list[tuple[Part, str]] = []

    def look(part: Part, inside: str) -> None:
        body = not inside and not part.filename and part.disposition != "attachment"
        if part.is_multipart and part.children:
            for child in part.children:
                look(child, inside)
        elif body and part.media_type == "text/plain":
            plain.append(part)
        elif body and part.media_type == "text/html":
            markup.append(part)
        else:
            others.append((part, inside))
            for child in part.children:
                look(child, harmless(part.filename) or "attached message")

    look(tree.root, "")
    return plain, markup, others


def _text(message: SpooledMessage, parts: list[Part]) -> tuple[str, bool]:
    pieces: list[str] = []
    left, cut = TEXT_CAP, False
    for part in parts:
        if left <= 0:
            return "\n\n".join(pieces), True
        text, short = decoding.text(message.buffer, part, left)
        left -= len(text)
        cut = cut or short
        pieces.append(text)
    return "\n\n".join(pieces), cut


def _html(message: SpooledMessage, parts: list[Part]) -> tuple[str, bool]:
    found = [decoding.text(message.buffer, part, HTML_CAP // len(parts)) for part in parts[:50]]
    html, cut = "\n".join(text for text, _ in found), any(cut for _, cut in found) or len(parts) > 50
    kept = html.split("<", MOST_TAGS + 1)
    return "<".join(kept[: MOST_TAGS + 1]), cut or len(kept) > MOST_TAGS + 1


def _headers(message: SpooledMessage, root: Part) -> Iterator[tuple[str, str]]:
    for name in _HEADERS:
        value = part_field(message.buffer, root, name)
        if value:
            shown = harmless(value)
            yield _SPELLED.get(name, name.title()), shown if len(shown) <= 1000 else shown[:1000] + "…"


def _attachment(message: SpooledMessage, part: Part, inside: str) -> Attachment:
    size = in_words(decoding.decoded_size(message.buffer, part))
    return Attachment(part.path, harmless(part.filename), harmless(part.media_type), size, inside)
