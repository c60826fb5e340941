"""7z, RAR, cabinet, ISO, LHA, cpio, ar, xar and a few compressors, through libarchive (BSD) and ctypes.

Only the calls that are needed, from memory, one member after the other. Refuses filters that would start programs, and
does without when the library is not installed: such files are then unreadable.
"""

import ctypes
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from gateway.checks.reading.budget import Budget
from gateway.checks.reading.octets import pointer
from gateway.checks.reading.rar import sealed_members
from gateway.checks.reading.values import Fact, FactCode, Item, MalformedError, Member
from gateway.mime.tree import Buffer

_EOF, _OK, _WARN = 1, 0, -20
_BLOCK = 65_536
_REGULAR = 0o100000
_TYPES = 0o170000
_FORMATS = ("7zip", "rar", "rar5", "cab", "iso9660", "lha", "cpio", "ar", "xar", "tar", "raw")
_FILTERS = ("compress", "lzip", "zstd", "lz4", "gzip", "bzip2", "xz")
_SEEN = (b"7z\xbc\xaf", b"MSCF", b"070701", b"070707", b"xar!")
"""Archives that clamd takes apart whatever it was built with."""
_TAKES = {
    "archive_read_new": (ctypes.c_void_p, ()),
    "archive_read_free": (ctypes.c_int, (ctypes.c_void_p,)),
    "archive_read_open_memory": (ctypes.c_int, (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)),
    "archive_read_next_header": (ctypes.c_int, (ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p))),
    "archive_read_data": (ctypes.c_ssize_t, (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)),
    "archive_entry_pathname_utf8": (ctypes.c_char_p, (ctypes.c_void_p,)),
    "archive_entry_pathname": (ctypes.c_char_p, (ctypes.c_void_p,)),
    "archive_entry_filetype": (ctypes.c_uint, (ctypes.c_void_p,)),
    "archive_entry_is_encrypted": (ctypes.c_int, (ctypes.c_void_p,)),
    "archive_read_has_encrypted_entries": (ctypes.c_int, (ctypes.c_void_p,)),
    "archive_error_string": (ctypes.c_char_p, (ctypes.c_void_p,)),
}


@lru_cache(maxsize=1)
def _library() -> Any:
    """libarchive, or None when it is not installed. One without RAR 5 or zstd is good for the others."""
    try:
        library = ctypes.CDLL("libarchive.so.13")
    except OSError:
        return None
    for name, (result, arguments) in _TAKES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def available() -> bool:
    """Whether libarchive is installed."""
    return _library() is not None


def read_archive(data: Buffer, budget: Budget) -> Iterator[Item]:
    """Members in the order of the archive."""
    library = _library()
    if library is None:
        raise MalformedError("libarchive is not installed")
    octets = pointer(data)  # to be kept as long as the archive is open
    archive = ctypes.c_void_p(library.archive_read_new())
    try:
        for kind, names in (("format", _FORMATS), ("filter", _FILTERS)):
            for name in names:
                support = getattr(library, f"archive_read_support_{kind}_{name}", None)
                if support is not None:
                    support(archive)
        if library.archive_read_open_memory(archive, octets, len(data)) != _OK:
            raise _error(library, archive)
        yield from _entries(library, archive, budget, data)
    finally:
        library.archive_read_free(archive)


def _format_of(data: Buffer) -> str:
    """The name of an archive that can have a password."""
    head = bytes(data[:8])
    return "7z" if head.startswith(b"7z\xbc\xaf") else "rar" if head.startswith(b"Rar!") else "archive"


def _entries(library: Any, archive: ctypes.c_void_p, budget: Budget, data: Buffer) -> Iterator[Item]:
    entry = ctypes.c_void_p()
    encrypted = 0
    sealed = sealed_members(data)
    seen = bytes(data[:6]).startswith(_SEEN) or data[32769:32774] == b"CD001"
    while True:
        status = library.archive_read_next_header(archive, ctypes.byref(entry))
        if status == _EOF:
            break
        if status < _WARN:
            error = _error(library, archive)
            if library.archive_read_has_encrypted_entries(archive) > 0 or "ncrypt" in str(error):
                encrypted += 1
                break
            raise error
        if library.archive_entry_filetype(entry) & _TYPES not in (_REGULAR, 0):
            budget.member()
            continue
        raw = library.archive_entry_pathname_utf8(entry) or library.archive_entry_pathname(entry) or b"content"
        name = raw.decode("utf-8", "replace")
        if library.archive_entry_is_encrypted(entry) or name in sealed:
            encrypted += 1
            yield Member(name, None)
        else:
            pieces = budget.metered(_octets(library, archive))
            yield Member("content" if name == "data" else name, pieces, seen=seen)
    if encrypted:
        yield Fact(FactCode.ARCHIVE_ENCRYPTED, "archive with a password", _format_of(data))


def _octets(library: Any, archive: ctypes.c_void_p) -> Iterator[bytes]:
    block = ctypes.create_string_buffer(_BLOCK)
    while size := library.archive_read_data(archive, block, _BLOCK):
        if size < 0:
            raise _error(library, archive)
        yield block.raw[:size]


def _error(library: Any, archive: ctypes.c_void_p) -> MalformedError:
    said = library.archive_error_string(archive) or b"cannot be opened"
    return MalformedError("archive: " + "".join(c for c in said.decode("utf-8", "replace") if c.isprintable())[:100])
