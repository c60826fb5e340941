"""Transforms to edits: what is put where, for every transform but encryption.

Pure, picklable in and out, so that large messages can be planned in an inspection process. All octets that no edit
covers stay. Refuses to change sealed parts, attachments and nested messages.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.errors import TransformError
from gateway.mime import Buffer, Edit, EditPlan, Limits, Message, field_value, fields_named, parse
from gateway.mime.legends import legend_present
from gateway.model.verdict import Transform, TransformKind
from gateway.transform.bodies import find_bodies
from gateway.transform.enveloped import is_encrypted
from gateway.transform.failure import TransformFailed
from gateway.transform.filling import Filling, fill, has_signature, lines_of, separation
from gateway.transform.header import add_field, write_field
from gateway.transform.placing import KNOWN, NotPlaceable
from gateway.transform.reading import TextBody

ORDER = (
    TransformKind.HEADER,
    TransformKind.SIGNATURE_BLOCK,
    TransformKind.BANNER,
    TransformKind.LEGEND,
    TransformKind.ENCRYPT,
)
"""The fixed order. What is put on top later stands higher: the legend above the banner."""

HEADERS = {TransformKind.LEGEND: "X-Civicgate-Legend", TransformKind.BANNER: "X-Civicgate-Banner"}
"""Where a legend or banner goes when no body can hold it."""

_DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Planned:
    """What planning gives."""

    edits: EditPlan
    notes: tuple[str, ...] = ()
    """One sentence each, for the record: what was put where, or why not. No content."""
    encrypt: Transform | None = None
    """Set when the edited message must still be encrypted."""


def plan(buffer: Buffer, transforms: Sequence[Transform], limits: Limits = _DEFAULT_LIMITS) -> Planned:
    """Plan all transforms on one message, in the fixed order. Raises :class:`TransformFailed`."""
    wanted = sorted(dict.fromkeys(transforms), key=lambda transform: ORDER.index(transform.kind))
    message = parse(buffer, limits)
    work = _Plan(buffer, message)
    for transform in wanted:
        try:
            work.take(transform)
        except TransformError as error:
            if isinstance(error, TransformFailed):
                raise
            raise TransformFailed(error.code, error.detail, transform) from error
    return work.finish()


class _Plan:
    """The state of planning one message."""

    def __init__(self, buffer: Buffer, message: Message) -> None:
        self.buffer = buffer
        self.message = message
        self.newline = message.newline
        self.fields: list[Edit] = []
        self.notes: list[str] = []
        self.encrypt: Transform | None = None
        self.bodies: list[Filling] | None = None
        self.sealed = False

    def take(self, transform: Transform) -> None:
        if transform.kind is TransformKind.HEADER:
            self.fields.append(add_field(self.message, write_field(transform.name, transform.value, self.newline)))
        elif transform.kind is TransformKind.SIGNATURE_BLOCK:
            self._sign(transform)
        elif transform.kind is TransformKind.ENCRYPT:
            self._encrypt(transform)
        else:
            self._mark(transform)

    def finish(self) -> Planned:
        gaps: list[Edit] = []
        edits: list[Edit] = []
        for body in self.bodies or ():
            if body.tops or body.foots:
                filled = self._fill(body)
                edits += filled
                gaps += separation(self.buffer, body.text.part, self.newline) if filled else []
        if self.fields and not self.message.root.fields and not gaps:
            gaps = separation(self.buffer, self.message.root, self.newline)
        return Planned(EditPlan((*self.fields, *gaps, *edits)), tuple(self.notes), self.encrypt)

    def _find(self) -> list[Filling]:
        """The bodies that can be written to; parsed and decoded once, on first need."""
        if self.bodies is None:
            found = find_bodies(self.buffer, self.message.root)
            self.sealed = found.sealed
            self.bodies = [Filling(TextBody(self.buffer, part)) for part in found.parts if part.encoding in KNOWN]
            if len(self.bodies) < len(found.parts):
                self.notes.append("a body with an unknown transfer encoding was left alone")
        return self.bodies

    def _mark(self, transform: Transform) -> None:
        """A legend or banner on top of every body, or in the header when no body can hold it."""
        lines = lines_of(transform)
        if not any(line.strip() for line in lines):
            return
        bodies = self._find()
        missing = [
            body for body in bodies if not (body.text.may_hold(lines) and legend_present(body.text.visible(), lines))
        ]
        for body in missing:
            body.tops.append(transform)
        if bodies and len(missing) < len(bodies):
            self.notes.append(f"{transform.kind.value}: already in the message")
        if not bodies or self.sealed:
            self._mark_header(transform, "the body is signed or encrypted" if self.sealed else "there is no text body")

    def _mark_header(self, transform: Transform, why: str) -> None:
        name, words = HEADERS[transform.kind], " ".join(transform.lines).split()
        value = "".join(c for c in " ".join(words) if c.isprintable())
        there = fields_named(self.message.root, name)
        if any(legend_present(field_value(self.buffer, known), transform.lines) for known in there):
            self.notes.append(f"{transform.kind.value}: already in the header")
            return
        self.fields.append(add_field(self.message, write_field(name, value, self.newline)))
        self.notes.append(f"{transform.kind.value}: {why}, {name} added instead")

    def _sign(self, transform: Transform) -> None:
        bodies = self._find()
        if self.sealed:
            raise TransformError("sealed", "the body is signed or encrypted: no signature block can be put in")
        if not bodies:
            raise TransformError("no-text", "there is no text body that can hold a signature block")
        for body in bodies:
            if has_signature(body.text, transform):
                self.notes.append(f"signature-block: already in {body.text.part.path}")
            elif body.text.truncated:
                raise TransformError("too-large", "the text is too large to find the end of what its writer wrote")
            else:
                body.foots.append(transform)

    def _encrypt(self, transform: Transform) -> None:
        if is_encrypted(self.buffer, self.message.root):
            self.notes.append("encrypt: already encrypted end to end, left alone")
        elif self.encrypt is None:
            self.encrypt = transform

    def _fill(self, body: Filling) -> list[Edit]:
        try:
            edits = fill(self.buffer, body, self.newline)
        except (NotPlaceable, ValueError, LookupError) as error:  # odd codecs raise what they like
            if body.foots:
                raise TransformFailed("unreadable", f"part {body.text.part.path}: {error}", body.foots[0]) from error
            for transform in body.tops:
                self._mark_header(transform, f"part {body.text.part.path} cannot be written to ({error})")
            return []
        self.notes += body.notes
        self.notes += [f"{t.kind.value}: put into {body.text.part.path}" for t in (*body.foots, *body.tops)]
        return edits
