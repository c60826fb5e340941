"""Splitting a header for encryption: what stays outside, what goes inside (RFC 8551 section 3.1, RFC 9788).

Outside stays what relays and readers need before they decrypt, and no word more: the subject becomes ``[...]``, people
are addresses without names, and a field that is not known to be harmless goes inside alone. A number that must not
leave in clear may stand in any of them. Refuses nothing.
"""

import re
from typing import NamedTuple

from gateway.mime import Field, Part, addresses, parse

_TRACE = frozenset(
    {
        *("return-path", "received", "x-received", "delivered-to", "x-original-to", "received-spf"),
        *("authentication-results", "envelope-to"),
    }
)
_ADDRESSES = frozenset(
    {
        *("from", "sender", "reply-to", "to", "cc", "bcc", "resent-from", "resent-sender", "resent-to", "resent-cc"),
        *("disposition-notification-to", "return-receipt-to", "mail-followup-to"),
    }
)
_PLAIN = frozenset(
    {
        *("date", "message-id", "in-reply-to", "references", "resent-date", "resent-message-id", "original-message-id"),
        *("auto-submitted", "precedence", "importance", "priority", "x-priority", "x-msmail-priority", "sensitivity"),
        *("list-id", "list-unsubscribe", "list-unsubscribe-post", "list-post", "list-help", "list-archive"),
        *("errors-to", "x-auto-response-suppress"),
    }
)
"""Fields of ids, dates and fixed words, that others act on without decrypting."""
_LINE_END = re.compile(rb"\r?\n")
_HP = re.compile(rb";[ \t\r\n]*hp[ \t]*=[ \t]*(?:\"[^\"]*+\"|[^;\s\"]++)", re.IGNORECASE)
_LONGEST = 998


class SplitHeader(NamedTuple):
    """Two header blocks without their empty lines: outside with the message's line ends, inside with CRLF."""

    outer: bytes
    inner: bytes


def split_header(header: bytes, newline: bytes) -> SplitHeader:
    """Split the header block of a whole message (all its fields), by RFC 9788 with ``hp="cipher"``."""
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
        elif name in _TRACE:
            outer.append(raw)
        else:
            protected.append(raw)
            shown = _shown(field, raw, header[field.value_start : field.value_end], newline)
            if shown:
                outer.append(shown)
                copies.append(_hp_outer(shown))
    inside = [*_marked(header, root, inside, newline), *protected, *copies]
    return SplitHeader(b"".join(outer), _LINE_END.sub(b"\r\n", b"".join(inside)))


def _line_ended(raw: bytes, newline: bytes) -> bytes:
    return raw if raw.endswith(b"\n") else raw + newline


def _shown(field: Field, raw: bytes, value: bytes, newline: bytes) -> bytes:
    """What stands outside for a field (RFC 9788 sections 3.2.1 and 3.2.2); empty: nothing."""
    name = field.name
    if name == "subject":
        return b"Subject: [...]" + newline
    if name in _PLAIN or name.startswith("x-civicgate-"):
        return raw
    if name not in _ADDRESSES:
        return b""
    written = _written(raw)
    mailboxes = addresses(value.decode("utf-8", "surrogateescape"))
    if not mailboxes:
        return written + b": undisclosed-recipients:;" + newline
    listed = [f"<{mailbox.address}>".encode("utf-8", "surrogateescape") for mailbox in mailboxes]
    return written + b": " + (b"," + newline + b" ").join(listed) + newline


def _written(raw: bytes) -> bytes:
    """The name of a raw field as its sender wrote it."""
    return raw.partition(b":")[0].rstrip(b" \t")


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
