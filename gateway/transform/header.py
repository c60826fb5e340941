"""Header fields: writing one that is valid whatever its value, and where it goes.

Refuses names that are no field names, and values with line ends or other control characters (header injection).
"""

import base64
import re

from gateway.errors import TransformError
from gateway.mime.edits import Edit
from gateway.mime.tree import Message

_NAME = re.compile(r"[!-9;-~]{1,60}\Z")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\x85\u2028\u2029]")
_CHUNK = re.compile(r"[ \t]*[^ \t]+")
_LINE = 78
_TRACE = frozenset(
    {
        *("return-path", "received", "x-received", "delivered-to", "x-original-to", "envelope-to", "x-envelope-from"),
        *("received-spf", "authentication-results", "arc-seal", "arc-message-signature", "dkim-signature"),
        *("arc-authentication-results", "domainkey-signature"),
    }
)
"""Fields that relays put on top; a new field goes below them, so that their order keeps its meaning."""


def write_field(name: str, value: str, newline: bytes = b"\r\n") -> bytes:
    """``Name: value`` with its line end, folded at 78 (RFC 5322 section 2.2.3), encoded words when it is not ASCII.

    Raises TransformError ``bad-header``.
    """
    if not _NAME.match(name):
        raise TransformError("bad-header", f"{name[:60]!r} is not a header field name")
    if _CONTROL.search(value):
        raise TransformError("bad-header", f"the value for {name} holds a line end or control character")
    value = value.strip(" \t")
    if value.isascii() and "=?" not in value and max(map(len, value.split()), default=0) < 900:
        chunks = _CHUNK.findall(value)
    else:
        chunks = _encoded_words(value, len(name) + 2)
    lines = [f"{name}:"]
    for chunk in chunks:
        spaced = chunk if chunk[0] in " \t" else f" {chunk}"
        if len(lines[-1]) + len(spaced) > _LINE and lines[-1] != f"{name}:":
            lines.append(spaced)
        else:
            lines[-1] += spaced
    return newline.join(line.encode("ascii") for line in lines) + newline


def add_field(message: Message, field: bytes) -> Edit:
    """The insertion of a written field below the trace fields on top, else as the first field."""
    at = message.root.header.start
    for known in message.root.fields:
        if known.name not in _TRACE or known.end == known.value_end:  # the last line may lack its end
            break
        at = known.end
    return Edit(at, at, field)


def _encoded_words(value: str, first: int) -> list[str]:
    """RFC 2047 section 2: words of at most 75 characters, each of whole characters; the first leaves room."""
    words: list[str] = []
    taken = b""
    room = max(9, (min(75, _LINE - first) - 12) // 4 * 3)
    for character in value:
        octets = character.encode("utf-8", "replace")
        if len(taken) + len(octets) > room:
            words.append(_word(taken))
            taken, room = b"", 45
        taken += octets
    words.append(_word(taken))
    return words


def _word(octets: bytes) -> str:
    return f"=?utf-8?B?{base64.b64encode(octets).decode('ascii')}?="
