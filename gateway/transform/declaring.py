"""Changing what a part says of itself: its charset and its transfer encoding, by edits of those fields alone."""

import re

from gateway.mime import Buffer, Edit, Field, Part, fields_named
from gateway.transform.placing import NotPlaceable

_CHARSET = re.compile(rb";[ \t\r\n]*charset\*?(?:0\*?)?[ \t]*=[ \t]*(?:\"[^\"]*+\"|[^;\s\"]++)", re.IGNORECASE)


def declare(
    buffer: Buffer, part: Part, newline: bytes, charset: str | None = None, encoding: str | None = None
) -> list[Edit]:
    """The edits with which a text/plain part declares another charset, another transfer encoding, or both.

    A message that lacked MIME-Version gets one, since without it readers may look at neither. Raises
    :class:`NotPlaceable` when the header has no proper end.
    """
    kinds = fields_named(part, "content-type")
    codings = fields_named(part, "content-transfer-encoding")
    if part.body.start == part.header.end:
        raise NotPlaceable("the header has no end of its own")
    if any(field.end == field.value_end for field in part.fields):
        raise NotPlaceable("the header ends inside a line")
    edits: list[Edit] = []
    added: list[str] = []
    if part.path == "1" and part.header.start == 0 and not fields_named(part, "mime-version"):
        added.append("MIME-Version: 1.0")
    if charset is not None and kinds:
        edits.append(_charset_edit(buffer, kinds[0], charset.encode("ascii")))
    elif charset is not None:
        added.append(f"Content-Type: text/plain; charset={charset}")
    if encoding is not None and codings:
        edits.append(Edit(codings[0].value_start, codings[0].value_end, b" " + encoding.encode("ascii")))
    elif encoding is not None:
        added.append(f"Content-Transfer-Encoding: {encoding}")
    if added:
        at = kinds[0].end if kinds else part.fields[-1].end if part.fields else part.header.start
        edits.append(Edit(at, at, b"".join(line.encode("ascii") + newline for line in added)))
    return edits


def _charset_edit(buffer: Buffer, field: Field, charset: bytes) -> Edit:
    raw = bytes(buffer[field.value_start : field.value_end])
    match = _CHARSET.search(raw)
    if match:
        start, end = field.value_start + match.start(), field.value_start + match.end()
        return Edit(start, end, b"; charset=" + charset)
    bare = raw.rstrip(b" \t\r\n;")
    return Edit(field.value_start + len(bare), field.value_end, b"; charset=" + charset)
