"""Which parts of a message are its body: what a reader sees first, as text and as HTML.

Refuses attachments, nested messages and sealed parts: nothing is ever put into those.
"""

from dataclasses import dataclass

from gateway.mime import part_field
from gateway.mime.tree import Buffer, Part

_BODIES = frozenset({"text/plain", "text/html"})


@dataclass(frozen=True, slots=True)
class Bodies:
    """The text parts that are the body; ``sealed`` when the body lies in a signed or encrypted part."""

    parts: tuple[Part, ...] = ()
    sealed: bool = False


def find_bodies(buffer: Buffer, root: Part) -> Bodies:
    """The first text/plain and the first text/html that together are the message's body.

    multipart/alternative: all its children say the same; mixed and the like: the first child that is not an
    attachment; related: its root (RFC 2387 section 3.2).
    """
    if root.sealed:
        return Bodies(sealed=True)
    if not root.is_multipart:
        return Bodies((root,)) if root.media_type in _BODIES and not is_attachment(root) else Bodies()
    if root.media_type == "multipart/alternative":
        return _alternatives(buffer, root)
    if root.media_type == "multipart/related":
        return find_bodies(buffer, _related_root(buffer, root)) if root.children else Bodies()
    if root.media_type == "multipart/digest":
        return Bodies()
    first = next((child for child in root.children if not is_attachment(child)), None)
    return find_bodies(buffer, first) if first is not None else Bodies()


def is_attachment(part: Part) -> bool:
    """True for what a reader shows as a file: by its disposition, by a name, or as a nested message."""
    if part.is_multipart:
        return False
    return part.disposition == "attachment" or bool(part.filename) or part.media_type.startswith("message/")


def _alternatives(buffer: Buffer, root: Part) -> Bodies:
    found: dict[str, Part] = {}
    sealed = False
    for child in root.children:
        inner = find_bodies(buffer, child)
        sealed = sealed or inner.sealed
        for part in inner.parts:
            found.setdefault(part.media_type, part)
    return Bodies(tuple(found.values()), sealed)


def _related_root(buffer: Buffer, part: Part) -> Part:
    start = part.parameter("start")
    if start:
        for child in part.children:
            if (part_field(buffer, child, "content-id") or "").strip() == start.strip():
                return child
    return part.children[0]
