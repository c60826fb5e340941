"""Splitting a header for encryption: what stays outside, what goes inside (RFC 8551 section 3.1, RFC 9788).

Outside stays what relays and readers need before they decrypt; Subject becomes ``[...]``; Comments, Keywords and
Thread-Topic (Outlook's copy of the subject) go inside alone. Refuses nothing.
"""

import re
from typing import NamedTuple

from gateway.mime import Field, Part, parse

_TRACE = frozenset(
    {
        *("return-path", "received", "x-received", "delivered-to", "x-original-to", "received-spf"),
        *("authentication-results", "envelope-to"),
    }
)
_SIGNATURES = frozenset(
    {
        *("dkim-signature", "domainkey-signature", "arc-seal", "arc-message-signature"),
        "arc-authentication-results",
    }
)
"""They sign the body that goes inside, and would fail outside."""
_CONFIDENTIAL = frozenset({"comments", "keywords", "thread-topic"})
_LINE_END = re.compile(rb"\r?\n")
_HP = re.compile(rb";[ \t\r\n]*hp[ \t]*=[ \t]*(?:\"[^\"]*+\"|[^;\s\"]++)", re.IGNORECASE)
_LONGEST = 998


class SplitHeader(NamedTuple):
    """Two header blocks without their empty lines: outside with the message's line ends, inside with CRLF."""

    outer: bytes
    inner: bytes


def split_header(header: bytes, protect: bool, newline: bytes) -> SplitHeader:
    """Split the header block of a whole message (all its fields). ``protect``: RFC 9788 with ``hp="cipher"``."""
    root = parse(header + newline).root
    outer: list[bytes] = []
    inside: list[bytes] = []
    protected: list[bytes] = []
    copies: list[bytes] = []
    for field in root.fields:
        raw = _line_ended(header[field.start : field.end], newline)
        name = field.name
        if name.startswith("content-"):
            inside.append(raw)
        elif name == "mime-version" or name.startswith("hp-outer"):
            continue
        elif name in _TRACE or not protect:
            outer.append(raw)
        else:
            protected.append(raw)
            shown = _shown(name, newline) if name in _CONFIDENTIAL or name == "subject" else raw
            if shown and name not in _SIGNATURES:
                outer.append(shown)
                copies.append(_hp_outer(shown))
    if protect:
        inside = [*_marked(header, root, inside, newline), *protected, *copies]
    return SplitHeader(b"".join(outer), _LINE_END.sub(b"\r\n", b"".join(inside)))


def _line_ended(raw: bytes, newline: bytes) -> bytes:
    return raw if raw.endswith(b"\n") else raw + newline


def _shown(name: str, newline: bytes) -> bytes:
    """What stands outside for a confidential field (RFC 9788 section 3.2.1)."""
    return b"Subject: [...]" + newline if name == "subject" else b""


def _hp_outer(raw: bytes) -> bytes:
    """HP-Outer (RFC 9788 section 2.2): the field as it stands outside."""
    line = raw.find(b"\n")
    return b"HP-Outer: " + raw if line <= _LONGEST - 12 else b"HP-Outer:\r\n " + raw


def _marked(header: bytes, root: Part, inside: list[bytes], newline: bytes) -> list[bytes]:
    """The Content- fields with ``hp="cipher"`` on Content-Type."""
    kind = next((field for field in root.fields if field.name == "content-type"), None)
    if kind is None:
        return [b'Content-Type: text/plain; hp="cipher"' + newline, *inside]
    raw = _line_ended(header[kind.start : kind.end], newline)
    return [_with_hp(header, kind, newline) if field == raw else field for field in inside]


def _with_hp(header: bytes, kind: Field, newline: bytes) -> bytes:
    value = _HP.sub(b"", header[kind.value_start : kind.value_end]).rstrip(b" \t\r\n;")
    if value.count(b'"') % 2:
        value += b'"'
    return b"Content-Type:" + value + b";" + newline + b' hp="cipher"' + newline
