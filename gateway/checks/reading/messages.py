"""Messages that are attachments, encoded or inside archives: every part is a member, every subject a text.

Refuses to judge their structure: the message around them is what passes the gateway.
"""

from collections.abc import Iterator

from gateway.checks.parts import is_attachment
from gateway.checks.reading.budget import Budget
from gateway.checks.reading.octets import pieces_of
from gateway.checks.reading.values import Fact, FactCode, Item, Member, Text
from gateway.mime.charsets import to_text
from gateway.mime.decoding import decode
from gateway.mime.fields import field_value
from gateway.mime.parser import parse
from gateway.mime.tree import Buffer, DefectCode, Limits, Part

_SHOWN = frozenset({"subject", "comments", "keywords", "content-description"})
_LIMITED = frozenset({DefectCode.TOO_DEEP, DefectCode.TOO_MANY_PARTS})
_LONGEST = 1_000_000


def read_message(data: Buffer, budget: Budget) -> Iterator[Item]:
    """Subjects, and each leaf as a member."""
    message = parse(data, Limits(max_depth=20, max_parts=min(1000, budget.limits.members)))
    for part in message.walk():
        budget.check_time()
        for field in part.fields:
            if field.name in _SHOWN:
                yield Text("subject" if field.name == "subject" else field.name, field_value(data, field))
        if part.media_type == "multipart/encrypted":
            yield Fact(FactCode.PGP_ENCRYPTED, "PGP/MIME")
        if part.children:
            yield from _around(data, part)
        else:
            name = part.filename or part.path
            yield Member(name, decode(data, part), listed=is_attachment(part), media_type=part.media_type)
    if any(defect.code in _LIMITED for defect in message.defects):
        yield Fact(FactCode.ARCHIVE_LIMIT, "nested message with too many parts")


def _around(data: Buffer, part: Part) -> Iterator[Item]:
    """What stands before the first and behind the last part of a multipart."""
    for span in (part.preamble, part.epilogue):
        if span.size > 2:
            for piece in pieces_of(data, span.start, min(span.end, span.start + _LONGEST), _LONGEST):
                yield Text("", to_text(piece))
