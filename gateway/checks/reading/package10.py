"""OLE packages: a file that was dropped into a document (MS-OLEDS 2.3.6, Ole10Native).

Refuses packages whose lengths do not fit; then the octets are given as they are.
"""

from collections.abc import Iterator

from gateway.checks.reading.octets import pieces_of
from gateway.checks.reading.values import Item, Member

_LONGEST_NAME = 1024


def native_files(raw: bytes) -> Iterator[Item]:
    """The file inside, by the package's layout wherever it begins; else all octets as one member."""
    for start in (0, *_after_class(raw)):
        found = _package(raw, start)
        if found is not None:
            name, first, last = found
            yield Member(name, pieces_of(raw, first, last))
            return
    yield Member("object.bin", pieces_of(raw), listed=False)


def _after_class(raw: bytes) -> Iterator[int]:
    """Behind the OLE 1.0 header of an RTF object: version, format, class name, two names, size."""
    at = raw.find(b"Package\0")
    if 0 <= at < 64:
        yield at + 8 + 8
        yield at + 8 + 12


def _package(raw: bytes, at: int) -> tuple[str, int, int] | None:
    """Name, start and end of the file in a package at this place."""
    size = int.from_bytes(raw[at : at + 4], "little")
    if not 8 < size <= len(raw) - at - 4 or raw[at + 4 : at + 6] != b"\x02\0":
        return None
    label = raw.find(b"\0", at + 6, at + 6 + _LONGEST_NAME)
    path = raw.find(b"\0", label + 1, label + 1 + _LONGEST_NAME) if label >= 0 else -1
    if path < 0:
        return None
    at = path + 1 + 4
    skip = int.from_bytes(raw[at : at + 4], "little")
    at += 4 + skip
    length = int.from_bytes(raw[at : at + 4], "little")
    if skip > _LONGEST_NAME or not 0 < length <= len(raw) - at - 4:
        return None
    title = raw[label + 1 : path] or b"object"
    shown = title.decode("cp1252", "replace").replace("\\", "/").rpartition("/")[2]
    return shown, at + 4, at + 4 + length
