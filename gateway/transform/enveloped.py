"""Whether a message is already encrypted end to end.

Judged by its octets, never by what it says of itself: who only claims to be encrypted must not slip past.
"""

import binascii
import re

from gateway.mime import Buffer, Part, decode

_PKCS7 = frozenset({"application/pkcs7-mime", "application/x-pkcs7-mime"})
_ENVELOPED = (
    bytes.fromhex("06092a864886f70d010703"),  # envelopedData, RFC 5652 section 6
    bytes.fromhex("060b2a864886f70d0109100117"),  # authEnvelopedData, RFC 5083
)
_PGP_BEGIN = b"-----BEGIN PGP MESSAGE-----"
_PGP_END = b"-----END PGP MESSAGE-----"
_PGP_PACKETS = frozenset({1, 3, 9, 18, 20})
"""Session keys and encrypted data, RFC 9580 section 5."""
_VERSION = re.compile(rb"\s*Version:\s*1\s*\Z", re.IGNORECASE)


def is_encrypted(buffer: Buffer, root: Part) -> bool:
    """True for S/MIME EnvelopedData or AuthEnvelopedData, and for PGP/MIME (RFC 3156 section 4) and nothing beside."""
    if root.media_type in _PKCS7:
        return is_enveloped(_first_octets(buffer, root))
    if root.media_type == "multipart/encrypted":
        return _is_pgp_mime(buffer, root)
    return False


def is_enveloped(start: bytes) -> bool:
    """A ContentInfo (SEQUENCE, OBJECT IDENTIFIER) of one of the two types, in DER or BER."""
    if len(start) < 2 or start[0] != 0x30:
        return False
    length = 2 if start[1] <= 0x80 else 2 + (start[1] & 0x7F)
    return start[length:].startswith(_ENVELOPED)


def _is_pgp_mime(buffer: Buffer, root: Part) -> bool:
    if len(root.children) != 2 or (root.parameter("protocol") or "").lower() != "application/pgp-encrypted":
        return False
    beside = bytes(buffer[root.preamble.start : root.preamble.end]) + bytes(
        buffer[root.epilogue.start : root.epilogue.end]
    )
    control, data = root.children
    version = bytes(buffer[control.body.start : control.body.end])
    if beside.strip() or not _VERSION.match(version):
        return False
    start = _first_octets(buffer, data).lstrip()
    tail = bytes(buffer[max(data.body.start, data.body.end - 200) : data.body.end]).rstrip()
    armoured = start.startswith(_PGP_BEGIN) and (data.encoding == "base64" or tail.endswith(_PGP_END))
    return armoured and _first_packet(start) in _PGP_PACKETS


def _first_packet(armour: bytes) -> int:
    """The tag of the first packet in ASCII armour, -1 when there is none."""
    lines = [line.strip() for line in armour.splitlines()[1:40]]
    if b"" not in lines:
        return -1
    data = b"".join(lines[lines.index(b"") + 1 :][:1])[:4]
    try:
        first = binascii.a2b_base64(data)[0]
    except (binascii.Error, IndexError):
        return -1
    if not first & 0x80:
        return -1
    return first & 0x3F if first & 0x40 else first >> 2 & 0x0F


def _first_octets(buffer: Buffer, part: Part) -> bytes:
    return next(iter(decode(buffer, part, 4096)), b"")
