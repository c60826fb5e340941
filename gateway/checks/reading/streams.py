"""gzip, bzip2, xz, tar, also one in the other, and ActiveMime: read as streams, never unpacked in whole.

Refuses links and devices in tar files: they hold nothing.
"""

import bz2
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from itertools import chain
from typing import IO, cast

from gateway.checks.reading.budget import Budget
from gateway.checks.reading.octets import File, Stream, pieces_of
from gateway.checks.reading.values import Item, MalformedError, Member
from gateway.checks.reading.zipped import drained
from gateway.mime.tree import Buffer

_BLOCK = 65_536
_GZIP_WINDOW = 16 + zlib.MAX_WBITS
_MEMORY = 1 << 28
_STREAMS = 1000
"""Streams behind one another in one file."""
_ERRORS = (zlib.error, OSError, lzma.LZMAError, EOFError, ValueError)


def read_gzip(data: Buffer, budget: Budget) -> Iterator[Item]:
    """A gzip file (RFC 1952), its members joined."""
    yield from _inside(_guarded(_gzip(data)), _gzip_name(data), budget)


def read_bzip2(data: Buffer, budget: Budget) -> Iterator[Item]:
    """A bzip2 file."""
    yield from _inside(_guarded(_joined(data, bz2.BZ2Decompressor)), "content", budget, seen=False)


def read_xz(data: Buffer, budget: Budget) -> Iterator[Item]:
    """An xz file."""
    yield from _inside(_guarded(_joined(data, _xz_decoder)), "content", budget, seen=data[:1] == b"\xfd")


def read_activemime(data: Buffer, budget: Budget) -> Iterator[Item]:
    """What Office keeps beside a page or in flat XML: a compound file, packed, behind a header of some fifty octets."""
    starts = dict.fromkeys((int.from_bytes(data[30:32], "little") + 46, 50, data.find(b"\x78", 40)))
    for start in starts:
        if data[start : start + 1] == b"\x78":
            yield Member("editdata", budget.metered(inflated(bytes(data[start:]))), listed=False, seen=False)
            return
    raise MalformedError("ActiveMime")


def read_tar(data: Buffer, budget: Budget) -> Iterator[Item]:
    """A tar file that lies open."""
    yield from _tar(cast("IO[bytes]", File(data)), "r:", budget)


def inflated(packed: bytes) -> Iterator[bytes]:
    """A zlib stream unpacked (RFC 1950). Raises :class:`MalformedError` when it is damaged, behind what can be had."""
    unpacker = zlib.decompressobj()
    try:
        while packed and not unpacker.eof:
            piece = unpacker.decompress(packed, _BLOCK)
            packed = unpacker.unconsumed_tail
            if not piece and not packed:
                break
            yield piece
    except zlib.error as error:
        raise MalformedError("zlib stream") from error


def _inside(pieces: Iterator[bytes], name: str, budget: Budget, seen: bool = True) -> Iterator[Item]:
    """What was compressed: a tar file's members, or one file. ``seen`` False: clamd may not unpack such files."""
    metered = budget.metered(pieces)
    head = b""
    try:
        while len(head) < 512 and (piece := next(metered, b"")):
            head += piece
    except MalformedError:
        if not head:
            raise
        yield Member(name, (head,), seen=seen)
        raise
    whole = chain((head,), metered)
    if head[257:262] == b"ustar":
        yield from _tar(cast("IO[bytes]", Stream(whole)), "r|", budget, seen)
    else:
        yield Member(name, whole, seen=seen)


def _tar(file: IO[bytes], mode: str, budget: Budget, seen: bool = True) -> Iterator[Item]:
    try:
        with tarfile.open(fileobj=file, mode=mode, bufsize=_BLOCK) as archive:  # type: ignore[call-overload]
            for entry in archive:
                archive.members.clear()  # else each is kept
                if entry.isreg():
                    inner = archive.extractfile(entry)
                    if inner is not None:
                        yield Member(entry.name, _blocks(inner, budget if mode == "r:" else None), seen=seen)
                else:
                    budget.member()
    except (tarfile.TarError, *_ERRORS) as error:
        raise MalformedError(f"tar: {type(error).__name__}") from error


def _blocks(file: IO[bytes], budget: Budget | None) -> Iterator[bytes]:
    """``budget``: None when the octets were counted as they were unpacked."""
    try:
        while piece := file.read(_BLOCK):
            if budget is not None:
                budget.unpack(len(piece))
                budget.check_time()
            yield piece
    except (tarfile.TarError, *_ERRORS) as error:
        raise MalformedError(f"tar: {type(error).__name__}") from error


def _gzip(data: Buffer) -> Iterator[bytes]:
    """Members one after the other; what follows the last and is none is left out, as gzip does."""
    at = 0
    for _ in range(_STREAMS):
        if data[at : at + 2] != b"\x1f\x8b":
            return
        stream = zlib.decompressobj(_GZIP_WINDOW)
        for piece in pieces_of(data, at, None, _BLOCK):
            rest = piece
            while rest:
                out = stream.decompress(rest, 4 * _BLOCK)
                if out:
                    yield out
                rest = stream.unconsumed_tail
            at += len(piece)
            if stream.eof:
                at -= len(stream.unused_data)
                break
        if not stream.eof:
            raise EOFError("ends early")


def _joined(data: Buffer, make: Callable[[], bz2.BZ2Decompressor | lzma.LZMADecompressor]) -> Iterator[bytes]:
    at = 0
    for count in range(_STREAMS):
        while data[at : at + 1] == b"\0":  # xz pads in fours
            at += 1
        if at >= len(data):
            return
        decoder = make()
        try:
            while not decoder.eof and at < len(data):
                piece = bytes(data[at : at + _BLOCK])
                at += len(piece)
                yield from drained(decoder, piece)
        except (OSError, lzma.LZMAError):
            if count:  # rubbish behind the end
                return
            raise
        if not decoder.eof:
            raise EOFError("ends early")
        at -= len(decoder.unused_data)


def _xz_decoder() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_AUTO, memlimit=_MEMORY)


def _guarded(pieces: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield from pieces
    except _ERRORS as error:
        raise MalformedError(f"{type(error).__name__}: {error}"[:100]) from error


def _gzip_name(data: Buffer) -> str:
    """The original name, if the header has one (RFC 1952 section 2.3.1)."""
    head = bytes(data[:1024])
    flags = head[3] if len(head) > 10 else 0
    at = 10
    if flags & 4:
        at += 2 + int.from_bytes(head[at : at + 2], "little")
    if not flags & 8:
        return "content"
    return head[at:].partition(b"\0")[0].decode("latin-1") or "content"
