"""S/MIME and other CMS files (RFC 5652): what is signed is opened, what is encrypted is said to be.

Refuses to verify: whoever signed, the content is looked at.
"""

import base64
import binascii
import re
import zlib
from collections.abc import Iterator

from gateway.checks.keyids import LONGEST, age_keys, cms_keys, openpgp_keys
from gateway.checks.reading.budget import Budget
from gateway.checks.reading.octets import pieces_of
from gateway.checks.reading.values import Fact, FactCode, Item, MalformedError, Member
from gateway.checks.reading.zipped import inflated
from gateway.mime.tree import Buffer

_ENCRYPTED = (
    b"\x2a\x86\x48\x86\xf7\x0d\x01\x07\x03",
    b"\x2a\x86\x48\x86\xf7\x0d\x01\x07\x06",
    b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x10\x01\x17",
)
"""envelopedData, encryptedData, authEnvelopedData."""
_COMPRESSED = b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x10\x01\x09"
_ARMOUR = re.compile(rb"-----BEGIN [A-Z0-9 ]+-----([A-Za-z0-9+/=\s]+)")
_SEQUENCE, _OID, _OCTETS, _INTEGER, _SET, _EXPLICIT = 0x30, 0x06, 0x04, 0x02, 0x31, 0xA0
_CONSTRUCTED_OCTETS = 0x24
_DEPTH = 16


class _Der:
    """Tags and lengths (X.690), definite or not."""

    def __init__(self, data: Buffer) -> None:
        self._data = data

    def head(self, at: int) -> tuple[int, int, int]:
        """Tag, start and end of the content; end -1: until the end-of-contents octets."""
        first = self._data[at : at + 10]
        if len(first) < 2:
            raise MalformedError("CMS ends early")
        length = first[1]
        if length == 0x80:
            return first[0], at + 2, -1
        if length < 0x80:
            return first[0], at + 2, at + 2 + length
        size = length & 0x7F
        if size > 8:
            raise MalformedError("CMS length")
        return first[0], at + 2 + size, at + 2 + size + int.from_bytes(first[2 : 2 + size], "big")

    def octets(self, at: int, depth: int = 0) -> Iterator[bytes]:
        """The content of an octet string, whole or in pieces."""
        tag, start, end = self.head(at)
        if tag == _OCTETS and end >= 0:
            yield from pieces_of(self._data, start, end)
            return
        if tag != _CONSTRUCTED_OCTETS or depth > _DEPTH:
            raise MalformedError("CMS content")
        while (end < 0 or start < end) and self._data[start : start + 2] != b"\0\0":
            _, first, last = self.head(start)
            if last < 0:
                raise MalformedError("CMS content")
            yield from self.octets(start, depth + 1)
            start = max(last, first)


def read_cms(data: Buffer, budget: Budget) -> Iterator[Item]:
    """Signed content as a member; encrypted content as a fact."""
    armour = _ARMOUR.search(bytes(data[:200_000])) if data[:1] != b"0" else None
    if armour:
        try:
            data = base64.b64decode(b"".join(_ARMOUR.findall(data)[0].split()))
        except binascii.Error as error:
            raise MalformedError("CMS armour") from error
    der = _Der(data)
    at = _enter(der, 0, _SEQUENCE)
    _, start, end = der.head(at)
    kind = bytes(data[start:end])
    if kind in _ENCRYPTED:
        yield Fact(FactCode.SMIME_ENCRYPTED, "S/MIME", "smime", cms_keys(bytes(data[:LONGEST])))
        return
    at = _enter(der, _enter(der, end, _EXPLICIT), _SEQUENCE)
    tag = der.head(at)[0]
    while tag in (_INTEGER, _SET) or (kind == _COMPRESSED and tag == _SEQUENCE and not _is_content(der, at, data)):
        at = der.head(at)[2]
        if at < 0:
            raise MalformedError("CMS structure")
        tag = der.head(at)[0]
    stop = der.head(at)[2]
    at = der.head(_enter(der, at, _SEQUENCE))[2]
    if 0 <= stop <= at or der.head(at)[0] != _EXPLICIT:
        return  # detached: the content stands elsewhere in the message
    octets = der.octets(der.head(at)[1])
    if kind == _COMPRESSED:
        packed = b"".join(octets)
        octets = _inflated(packed)
    yield Member("signed content", budget.metered(octets), listed=False, media_type="message/rfc822", seen=False)


def _enter(der: _Der, at: int, wanted: int) -> int:
    tag, start, _ = der.head(at)
    if tag != wanted:
        raise MalformedError("CMS structure")
    return start


def _is_content(der: _Der, at: int, data: Buffer) -> bool:
    """Encapsulated content: an object identifier that is data, then [0]."""
    _, start, _ = der.head(at)
    tag, first, last = der.head(start)
    return tag == _OID and bytes(data[first:last]).startswith(b"\x2a\x86\x48\x86\xf7\x0d\x01\x07")


def _inflated(packed: bytes) -> Iterator[bytes]:
    try:
        yield from inflated(packed, 0, len(packed), zlib.MAX_WBITS)
    except (zlib.error, EOFError) as error:
        raise MalformedError("CMS compression") from error


def read_pgp(data: Buffer, _budget: Budget) -> Iterator[Item]:
    """A message or file encrypted with OpenPGP."""
    keys = openpgp_keys(bytes(data[: 2 * LONGEST]))
    yield Fact(FactCode.PGP_ENCRYPTED, "OpenPGP", "" if keys is None else "openpgp", keys or ())


def read_age(data: Buffer, _budget: Budget) -> Iterator[Item]:
    """A file encrypted with age."""
    yield Fact(FactCode.CONTENT_ENCRYPTED, "age", "age", age_keys(bytes(data[:LONGEST])))
