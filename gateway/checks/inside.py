"""What stands inside attachments, as findings: which parts need a reader, and what the readers said of them.

Knows the readers by an interface only, so that the gateway's own process never loads them: they run in inspection
processes. Refuses to show file names with long numbers in a path; those may be what is looked for.
"""

import binascii
import re
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

from gateway.checks.attachment import contradicts, group_of
from gateway.checks.coded import may_hold
from gateway.checks.keyids import LONGEST, armoured, openpgp_keys
from gateway.checks.links import Links
from gateway.checks.parts import PGP_MESSAGE, Reading, is_attachment
from gateway.checks.plain import plain
from gateway.checks.reading.kinds import HEAD, Kind, kind_of
from gateway.checks.reading.names import double_extension, turned
from gateway.checks.reading.values import Fact, FactCode, File, Found, Link, Text
from gateway.checks.tally import Place
from gateway.errors import CivicgateError
from gateway.mime.decoding import decode, decoded_size
from gateway.mime.tree import Part
from gateway.model.finding import Check, Finding
from gateway.settings import InspectionSettings

TYPE_MISMATCH = "type-mismatch"
DOUBLE_EXTENSION = "double-extension"
DECEPTIVE_NAME = "deceptive-name"
MAX_FILES = 200
"""Attachment findings for files inside attachments; more only for programs, scripts and sealed files."""
_WITHOUT_READER = frozenset({Kind.EMPTY, Kind.TEXT, Kind.MARKUP})
"""Kinds that the texts of the message itself cover."""
_TAIL = 4000
"""Octets at the end of a picture's body that are looked at."""
_GRAVE = frozenset({"executable", "script", "media"})
_NUMBER = re.compile(r"\d(?:[ ._-]?\d){4,}")
_LONGEST_PART = 300
_SHOWN_KEYS = 4


class Attachment(NamedTuple):
    """One part for the readers."""

    pieces: Iterator[bytes]
    size: int
    name: str
    declared: str


ReadAttachment: TypeAlias = Callable[[Attachment], Iterator[Found]]
OpenReader: TypeAlias = Callable[[InspectionSettings], ReadAttachment]
"""Gives a reader for the attachments of one message, with its budget."""


def parts_to_read(reading: Reading, pictures: bool = False) -> Iterator[tuple[Part, Kind]]:
    """The parts that need a reader, by their first octets. Ordinary bodies are passed over without a look.

    ``pictures``: these are read too.
    """
    for part in reading.parts:
        if part.children or part.is_multipart or not part.body.size:
            continue
        if part.is_text and not is_attachment(part) and part.encoding != "base64":
            if reading.may_hold_coded(part):
                yield part, Kind.TEXT
            continue
        kind = kind_of(reading.head(part, HEAD), part.filename, part.media_type)
        if kind is Kind.PICTURE:
            needed = pictures or _ends_in_zip(reading, part)
        elif kind is Kind.MESSAGE:
            needed = not part.is_text
        elif kind is Kind.CALENDAR:
            needed = b"BASE64" in b"".join(decode(reading.buffer, part)).upper()
        else:
            needed = kind not in _WITHOUT_READER or _holds_coded(reading, part)
        if needed:
            yield part, kind


def _holds_coded(reading: Reading, part: Part) -> bool:
    """True when files stand in a text under an encoding of their own."""
    if part.encoding != "base64":
        return reading.may_hold_coded(part)
    return may_hold(b"".join(decode(reading.buffer, part)))


def _ends_in_zip(reading: Reading, part: Part) -> bool:
    """True when a ZIP directory stands at the end of a picture or a film: it is an archive to other programs."""
    raw = bytes(reading.buffer[max(part.body.start, part.body.end - _TAIL) : part.body.end])
    if part.encoding == "base64":
        clean = b"".join(raw.split()).rstrip(b"=")
        padding = -len(clean) % 4 if len(clean) % 4 != 1 else 0
        clean = (clean + b"=" * padding)[len(clean + b"=" * padding) % 4 :]
        try:
            raw = binascii.a2b_base64(clean)
        except binascii.Error:
            return True
    return b"PK\x05\x06" in raw


def encryption(format_: str, keys: tuple[str, ...], part: str, offset: int = -1) -> Finding:
    """Something encrypted, and for which keys; ids are no secret."""
    shown = ", ".join(keys[:_SHOWN_KEYS]) + (f" and {len(keys) - _SHOWN_KEYS} more" if len(keys) > _SHOWN_KEYS else "")
    evidence = "".join(c if c.isprintable() else "?" for c in f"for {shown}" if keys)[:300]
    return Finding(Check.ENCRYPTION, format_, "\n".join(keys), part, offset, evidence=evidence)


def sealed_for(reading: Reading) -> Iterator[Finding]:
    """What the message itself declares to be encrypted, and for which keys: PGP/MIME and inline PGP."""
    for part in reading.parts:
        if part.media_type == "multipart/encrypted":
            leaf = next((child for child in reversed(part.children) if not child.children), None)
            keys = openpgp_keys(reading.head(leaf, LONGEST)) if leaf else None
            yield encryption("openpgp", keys or (), part.path, part.body.start)
        elif part.is_text and _has_block(reading, part):
            for block in armoured(reading.shown(part)):
                keys = openpgp_keys(block)
                if keys is not None:
                    yield encryption("openpgp", keys, part.path, part.body.start)


def _has_block(reading: Reading, part: Part) -> bool:
    if part.encoding in ("base64", "quoted-printable"):
        return PGP_MESSAGE.decode() in reading.text_of(part)[0]
    return reading.holds(PGP_MESSAGE) and reading.buffer.find(PGP_MESSAGE, part.body.start, part.body.end) >= 0


def sealed_parts(reading: Reading) -> Iterator[Finding]:
    """End-to-end encryption that the message itself declares: PGP/MIME and inline PGP."""
    for part in reading.parts:
        inline = part.sealed and part.media_type == "text/plain"
        if part.media_type == "multipart/encrypted" or (
            inline and reading.buffer.find(PGP_MESSAGE + b"-----", part.body.start, part.body.end) >= 0
        ):
            yield Finding(Check.STRUCTURE, FactCode.PGP_ENCRYPTED.value, part=part.path, offset=part.body.start)


def names_made_to_deceive(names: tuple[str, ...], part: str, offset: int = -1) -> Iterator[Finding]:
    """Findings about file names alone."""
    for name in names:
        if double_extension(name):
            yield Finding(Check.STRUCTURE, DOUBLE_EXTENSION, name, part, offset)
        if turned(name):
            yield Finding(Check.STRUCTURE, DECEPTIVE_NAME, name, part, offset)


def look_inside(
    reading: Reading, readers: OpenReader, settings: InspectionSettings, links: Links | None = None
) -> "Inside | None":
    """The inside of the attachments, None when no part needs a reader (then ``readers`` is not called)."""
    parts = list(parts_to_read(reading, settings.ocr))
    return Inside(reading, parts, readers(settings), links) if parts else None


class NeedsPicturesError(CivicgateError):
    """There is a picture to be read, which is done in another process."""


class NeedsReader(Exception):
    """A part has to be read by a reader, which is not at hand here."""


def elsewhere(_settings: InspectionSettings) -> ReadAttachment:
    """Readers for a place where nothing may be read: raises :class:`NeedsReader`."""
    raise NeedsReader


class Inside:
    """The inside of one message's attachments, read once: by :meth:`texts`, else by :meth:`findings`."""

    def __init__(
        self, reading: Reading, parts: list[tuple[Part, Kind]], read: ReadAttachment, links: Links | None = None
    ) -> None:
        self._reading = reading
        self._parts = parts
        self._read = read
        self._facts: dict[tuple[str, str], tuple[Finding, int]] = {}
        self._sealed: dict[Finding, None] = {}
        self._links = links
        self._files: list[Finding] = []
        self._listed = 0
        self._done = False

    def texts(self) -> Iterator[tuple[bytes, Place]]:
        """Every text, plain, with its place."""
        self._done = True
        for part, kind in self._parts:
            yield from self._part(part, kind)

    def _part(self, part: Part, kind: Kind) -> Iterator[tuple[bytes, Place]]:
        """Texts and attachments of a message in it, and its own text, are known already, but not what is in those."""
        again = kind is Kind.MESSAGE
        pieces = decode(self._reading.buffer, part, 262_144)
        size = decoded_size(self._reading.buffer, part)
        for path, item in self._read(Attachment(pieces, size, part.filename, part.media_type)):
            where = _where(part.path, path)
            if isinstance(item, Text):
                yield (
                    plain(item.text),
                    Place(where, "attachment", again=again or (not path and kind in _WITHOUT_READER)),
                )
            elif isinstance(item, Fact):
                self._fact(part, where, item)
            elif isinstance(item, Link):
                if self._links is not None:
                    self._links.one(item.url, item.words, where)
            elif not (again and "/" not in path):  # the message's own attachments are known already
                self._file(item, where)

    def _fact(self, part: Part, where: str, fact: Fact) -> None:
        """The first of a code and part, and how many there are."""
        if fact.format and len(self._sealed) < MAX_FILES:
            self._sealed[encryption(fact.format, fact.keys, where)] = None
        key = (fact.code.value, part.path)
        first, count = self._facts.get(key, (None, 0))
        if first is None:
            detail = _NUMBER.sub("***", "".join(c if c.isprintable() else "?" for c in fact.detail))[:200]
            first = Finding(Check.STRUCTURE, fact.code.value, part=where, evidence=detail)
        self._facts[key] = (first, count + 1)

    def _file(self, file: File, where: str) -> None:
        name = file.name.rstrip("\0")
        grave = group_of(file.media_type) in _GRAVE or not file.media_type
        self._listed += 1
        if self._listed > MAX_FILES and (not grave or self._listed > 10 * MAX_FILES):
            return
        base = name.replace("\\", "/").rpartition("/")[2]
        self._files.append(
            Finding(Check.ATTACHMENT, file.media_type, base, where, declared=file.declared, size=file.size)
        )
        if file.media_type and contradicts(file.declared, base, file.media_type):
            evidence = f"{file.declared or 'the name'} is {file.media_type}"
            self._files.append(
                Finding(Check.STRUCTURE, TYPE_MISMATCH, base, where, evidence=evidence, declared=file.declared)
            )
        self._files.extend(names_made_to_deceive((base,), where))

    def findings(self) -> Iterator[Finding]:
        """Files inside attachments, and facts: the first of each code and part, with how many there are."""
        if not self._done:
            deque(self.texts(), maxlen=0)
        yield from self._files
        yield from self._sealed
        for finding, count in self._facts.values():
            yield (
                finding
                if count == 1
                else Finding(finding.check, finding.kind, part=finding.part, evidence=finding.evidence, count=count)
            )


def _where(part: str, path: str) -> str:
    """A path into an attachment: ``2/pay.zip/staff.xlsx, sheet 2``."""
    if not path:
        return part
    shown = _NUMBER.sub("***", "".join(c if c.isprintable() else "?" for c in path))
    return f"{part}/{shown[:_LONGEST_PART]}"
