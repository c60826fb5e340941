"""Through an attachment and all that is in it: the reader for each kind, members in turn, one budget.

Yields texts, facts and files with the path that leads to them. Refuses to let one file's trouble hide another's: what a
reader cannot finish is a fact, and the walk goes on; only a limit of the budget ends the attachment.
"""

from collections import deque
from collections.abc import Iterable, Iterator

from gateway.checks.active import TAIL, active_kind
from gateway.checks.attachment import real_type
from gateway.checks.doubtful import TooLargeError
from gateway.checks.handout import Handout
from gateway.checks.inside import NeedsPicturesError
from gateway.checks.parts import reads_as_text
from gateway.checks.reading.budget import Budget
from gateway.checks.reading.kinds import HEAD, Kind, kind_of
from gateway.checks.reading.library import read_archive
from gateway.checks.reading.macintosh import read_macintosh
from gateway.checks.reading.messages import read_message
from gateway.checks.reading.octets import Holding, pieces_of
from gateway.checks.reading.ole import read_ole
from gateway.checks.reading.package import read_zip
from gateway.checks.reading.pdf import read_pdf
from gateway.checks.reading.pictures import read_picture
from gateway.checks.reading.plaintext import read_calendar, read_coded, read_markup, read_text
from gateway.checks.reading.rtf import read_rtf
from gateway.checks.reading.sealed import read_age, read_cms, read_pgp
from gateway.checks.reading.streams import read_activemime, read_bzip2, read_gzip, read_tar, read_xz
from gateway.checks.reading.strings import runs_of
from gateway.checks.reading.tnef import read_tnef
from gateway.checks.reading.values import (
    Fact,
    FactCode,
    File,
    Found,
    Item,
    LimitReached,
    Link,
    MalformedError,
    Member,
    Reader,
    Text,
)
from gateway.checks.rescan import CLOSED, TOO_LARGE, hidden_in
from gateway.mime.tree import Buffer

READERS: dict[Kind, Reader] = {
    Kind.PDF: read_pdf,
    Kind.ZIP: read_zip,
    Kind.OLE: read_ole,
    Kind.RTF: read_rtf,
    Kind.TNEF: read_tnef,
    Kind.GZIP: read_gzip,
    Kind.BZIP2: read_bzip2,
    Kind.XZ: read_xz,
    Kind.TAR: read_tar,
    Kind.MACINTOSH: read_macintosh,
    Kind.CODED: read_coded,
    Kind.ACTIVEMIME: read_activemime,
    Kind.ARCHIVE: read_archive,
    Kind.MARKUP: read_markup,
    Kind.CALENDAR: read_calendar,
    Kind.MESSAGE: read_message,
    Kind.CMS: read_cms,
    Kind.PGP: read_pgp,
    Kind.AGE: read_age,
    Kind.TEXT: read_text,
    Kind.PICTURE: read_picture,
}
"""A reader a kind. The others have nothing to read, or nobody to read it."""
_CERTAIN = {
    Kind.PDF: "application/pdf",
    Kind.RTF: "text/rtf",
    Kind.TNEF: "application/vnd.ms-tnef",
    Kind.GZIP: "application/gzip",
    Kind.BZIP2: "application/x-bzip2",
    Kind.XZ: "application/x-xz",
    Kind.TAR: "application/x-tar",
    Kind.MARKUP: "text/html",
    Kind.CALENDAR: "text/calendar",
    Kind.MESSAGE: "message/rfc822",
    Kind.EMPTY: "application/x-empty",
}
"""Kinds whose media type needs no libmagic."""
_SCRIPT_STARTS = (b"#!", b"<?php", b"@echo", b"@ECHO", b"@Echo")
_LONGEST_STEP = 80
_MAY_END_IN_ZIP = frozenset({Kind.OTHER, Kind.PICTURE, Kind.PDF, Kind.TEXT, Kind.MARKUP, Kind.RTF})
"""Files that can have an archive behind them without being a container in which one is stored."""


class Walk:
    """The walk through the attachments of one message."""

    def __init__(self, budget: Budget, out: Handout | None = None) -> None:
        self._budget = budget
        self._out = out

    def attachment(self, pieces: Iterable[bytes], size: int, name: str, declared: str) -> Iterator[Found]:
        """All that is in one attachment of about ``size`` octets. Never raises for what it holds (but MemoryError)."""
        try:
            self._budget.begin(size)
            holding = Holding()
            holding.take(pieces)
            data = holding.done()
            yield from _active(data, name, "", known=True)
            yield from self._file(data, name, declared, (), 0)
        except LimitReached as error:
            if self._out is not None:
                self._out.unread = error.detail
            yield Found("", Fact(error.code, error.detail))

    def _file(self, data: Buffer, name: str, declared: str, path: tuple[str, ...], depth: int) -> Iterator[Found]:
        where = "/".join(path)
        kind = kind_of(bytes(data[:HEAD]), name, declared)
        if depth > self._budget.limits.depth:
            if kind not in (Kind.EMPTY, Kind.PICTURE):
                if self._out is not None:
                    self._out.unread = "containers nested too deep"
                yield Found(where, Fact(FactCode.ARCHIVE_LIMIT, f"deeper than {self._budget.limits.depth}"))
            return
        reader = READERS.get(kind)
        if reader is not None:
            yield from self._read(reader, data, path, depth)
        elif kind is Kind.FOREIGN_ARCHIVE:
            yield Found(where, Fact(FactCode.UNREADABLE, "an archive of a kind that cannot be read"))
        elif kind is Kind.OTHER:
            yield from self._read(read_picture, data, path, depth)
            for text in runs_of(data):
                yield Found(where, Text("", text[: self._budget.text(len(text))]))
        if kind in _MAY_END_IN_ZIP and _has_zip(data):
            yield from self._read(read_zip, data, path, depth, sure=False)
        if self._out is not None:
            self._hand_out(self._out, data, kind, path, depth)

    def _hand_out(self, out: Handout, data: Buffer, kind: Kind, path: tuple[str, ...], depth: int) -> None:
        """What a file hides from clamd by other means than being packed."""
        try:
            for pieces, is_file in hidden_in(data, kind):
                if out.cut:
                    return
                self._budget.member()
                holding = Holding()
                holding.take(self._budget.metered(pieces))
                found = holding.done()
                if out.add(pieces_of(found)) and is_file and kind_of(bytes(found[:HEAD])) in CLOSED:
                    deque(self._file(found, "", "", path, depth + 1), maxlen=0)
        except TooLargeError:
            out.cut = TOO_LARGE

    def _read(
        self, reader: Reader, data: Buffer, path: tuple[str, ...], depth: int, sure: bool = True
    ) -> Iterator[Found]:
        """``sure`` False: damage is no fact, since the file need not be of this kind."""
        where = "/".join(path)
        try:
            for item in reader(data, self._budget):
                yield from self._item(item, path, depth)
        except (LimitReached, MemoryError, NeedsPicturesError):
            raise
        except MalformedError as error:
            if sure:
                yield Found(where, Fact(FactCode.UNREADABLE, str(error)))
        except Exception as error:  # noqa: BLE001 - a reader stumbles over a file made for that; the walk must not
            if sure:
                yield Found(where, Fact(FactCode.UNREADABLE, f"{type(error).__name__} in {reader.__name__}"))

    def _item(self, item: Item, path: tuple[str, ...], depth: int) -> Iterator[Found]:
        where = "/".join(path)
        if isinstance(item, Text):
            if item.text:
                room = self._budget.text(len(item.text))
                place = ", ".join(filter(None, (where, item.place)))
                yield Found(place, item if room >= len(item.text) else Text(item.place, item.text[:room]))
        elif isinstance(item, Fact | Link):
            yield Found(where, item)
        else:
            yield from self._member(item, path, depth)

    def _member(self, member: Member, path: tuple[str, ...], depth: int) -> Iterator[Found]:
        self._budget.member()
        path = (*path, step_of(member.name))
        where = "/".join(path)
        if member.pieces is None:
            yield Found(where, File(where, member.name, "", 0, member.media_type))
            return
        holding = Holding()
        damage: MalformedError | None = None
        try:
            holding.take(member.pieces)
        except MalformedError as error:
            damage = error
        data = holding.done()
        if self._out is not None and not member.seen:
            self._out.add(pieces_of(data))
        if member.listed:
            yield Found(where, File(where, member.name, _type_of(data, member), len(data), member.media_type))
            yield from _active(data, member.name, where)
        if damage is not None:
            yield Found(where, Fact(FactCode.UNREADABLE, str(damage)))
        yield from self._file(data, member.name, member.media_type, path, depth + 1)


def step_of(name: str) -> str:
    """One step of a path, fit to be shown and logged."""
    name = name.replace("\\", "/").strip("/")
    if len(name) > _LONGEST_STEP:
        name = "…" + name[-_LONGEST_STEP:]
    return "".join(c if c.isprintable() else "?" for c in name) or "?"


def _type_of(data: Buffer, member: Member) -> str:
    """The media type, by libmagic where the kind does not say it."""
    head = bytes(data[:HEAD])
    kind = kind_of(head, member.name, member.media_type)
    if kind is Kind.TEXT:
        start = head[:200].lstrip()
        return real_type(head[:2048]) if start.startswith(_SCRIPT_STARTS) else "text/plain"
    return _CERTAIN.get(kind) or real_type(head)


def _active(data: Buffer, name: str, where: str, known: bool = False) -> Iterator[Found]:
    """``known``: what its first octets say of it is known already."""
    head = bytes(data[:HEAD])
    text = reads_as_text(head[:4096])
    active = active_kind(head, name, text, bytes(data[max(0, len(data) - TAIL) :]))
    if active is not None and not (known and active_kind(head, name, text)):
        yield Found(where, Fact(active.code, active.what))


def _has_zip(data: Buffer) -> bool:
    """A ZIP directory at the end of something else: a self-extracting program, or a picture that is an archive too."""
    return len(data) > 22 and data.rfind(b"PK\x05\x06", max(0, len(data) - 65_600)) >= 0
