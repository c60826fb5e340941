"""For whom something is encrypted, as far as the format tells: ids of keys in OpenPGP, CMS and age.

Reads beginnings alone; decrypts and verifies nothing. What an id says is the writer's word: whether the session key is
really encrypted for that key only its holder can tell. Refuses to raise for what is damaged: what was read counts.
"""

import base64
import binascii
import re
from collections.abc import Iterator
from typing import NamedTuple

LONGEST = 1024 * 1024
"""Octets of a beginning that are looked at: room for a thousand recipients."""
PASSWORD = "password"  # noqa: S105 - a word for people
"""Stands among the ids for what a password opens."""
_MOST = 2000
_BEGIN, _END = "-----BEGIN PGP MESSAGE", "-----END PGP"
_BASE64_LINE = re.compile(r"[A-Za-z0-9+/]+={0,2}\Z")
_PUBLIC_KEY, _PASSWORD_KEY = 1, 3
_SKIPPED = frozenset({10, 21})
"""Marker and padding packets (RFC 9580 sections 5.8, 5.14)."""
_ENCRYPTED = frozenset({9, 18, 20})
_READABLE = frozenset({2, 4, 8, 11})
"""Signatures, compressed and literal data: anybody can read what begins with them."""
_V3_KEY_ID = 9
_AGE = re.compile(rb"-> ([A-Za-z0-9_-]{1,40})(?: ([^\s]{1,200}))?[^\n]*\n")
_AGE_ARMOUR = re.compile(rb"-----BEGIN AGE ENCRYPTED FILE-----([A-Za-z0-9+/=\s]+)")
_OID, _INTEGER, _OCTETS, _SEQUENCE, _SET = 0x06, 0x02, 0x04, 0x30, 0x31
_CONTEXT, _PRIMITIVE_CONTEXT = 0xA0, 0x80
_DEPTH = 24
_NAMES = {
    "550403": "CN", "550406": "C", "550407": "L", "550408": "ST", "550409": "street", "55040a": "O", "55040b": "OU",
    "550405": "serialNumber", "55040c": "title", "550404": "SN", "55042a": "GN", "0992268993f22c640119": "DC",
    "0992268993f22c640101": "UID", "2a864886f70d010901": "emailAddress",
}  # fmt: skip
"""Attribute types of names (RFC 4514 section 3, RFC 5280 appendix A) by the octets of their identifiers."""
_SPECIAL = re.compile(r'([,+"\\<>;])')
_WIDE = 0x1E
_LATIN = 0x14


def openpgp_keys(data: bytes) -> tuple[str, ...] | None:
    """Ids of the keys that an OpenPGP message, binary or armoured, is encrypted for; None: empty, or not encrypted.

    Key ids have 16 hexadecimal digits, fingerprints 40 or 64 (RFC 9580 sections 5.1, 5.5.4); sixteen zeros stand for a
    recipient that is not told, ``password`` for a password.
    """
    head = data[: 2 * LONGEST]
    armour = next(armoured(head.decode("latin-1")), None) if b"-----BEGIN PGP MESSAGE" in head[:4096] else None
    return _packets(head if armour is None else armour)


def armoured(text: str) -> Iterator[bytes]:
    """The octets of each armoured message in a text (RFC 9580 section 6.2), quoted or indented ones too."""
    at = text.find(_BEGIN)
    for _ in range(_MOST):
        if at < 0:
            return
        start = at + len(_BEGIN)
        end = text.find(_END, start)
        end = len(text) if end < 0 else end
        at = text.find(_BEGIN, end)
        rows = [row.strip("> \t\r") for row in text[start : min(end, start + 2 * LONGEST)].split("\n")[1:]]
        packed = "".join(row for row in rows if _BASE64_LINE.match(row))
        try:
            yield base64.b64decode(packed[: len(packed) // 4 * 4])
        except binascii.Error:
            yield b""


def _packets(data: bytes) -> tuple[str, ...] | None:
    keys: list[str] = []
    at = 0
    while at < len(data) and len(keys) < _MOST:
        packet = _packet(data, at)
        if packet is None:
            break
        tag, start, end = packet
        if tag in _READABLE and not keys:
            return None
        if tag == _PUBLIC_KEY:
            keys.append(_recipient(data[start:end]))
        elif tag == _PASSWORD_KEY:
            keys.append(PASSWORD)
        elif tag in _ENCRYPTED:
            return tuple(dict.fromkeys(keys))
        elif tag not in _SKIPPED:
            break
        at = end
    return tuple(dict.fromkeys(keys)) if data else None


def _packet(data: bytes, at: int) -> tuple[int, int, int] | None:
    """Tag, start and end of a packet's body (RFC 9580 section 4.2), or None. A partial one goes on to the end."""
    head = data[at : at + 6]
    if len(head) < 2 or not head[0] & 0x80:
        return None
    if not head[0] & 0x40:
        size = (1, 2, 4, 0)[head[0] & 3]
        start = at + 1 + size
        return (head[0] >> 2) & 15, start, start + int.from_bytes(head[1 : 1 + size]) if size else len(data)
    tag, first = head[0] & 63, head[1]
    if first < 192:
        return tag, at + 2, at + 2 + first
    if first < 224:
        return tag, at + 3, at + 3 + ((first - 192) << 8) + int.from_bytes(head[2:3]) + 192
    if first < 255:
        return tag, at + 2, len(data)
    return tag, at + 6, at + 6 + int.from_bytes(head[2:6])


def _recipient(body: bytes) -> str:
    """The key of a session key packet of version 3 or 6."""
    if body[:1] == b"\x06":
        size = int.from_bytes(body[1:2])
        return body[3 : 2 + size].hex().upper() or "0" * 16
    return body[1:_V3_KEY_ID].hex().upper().rjust(16, "0")


def age_keys(data: bytes) -> tuple[str, ...]:
    """Recipients of an age file: ``ssh-ed25519 TAG``, ``ssh-rsa TAG``, ``password``, else the kind (``X25519``)."""
    armour = _AGE_ARMOUR.search(data[:LONGEST])
    if armour:
        packed = b"".join(armour[1].split())
        try:
            data = base64.b64decode(packed[: len(packed) // 4 * 4])
        except binascii.Error:
            return ()
    head = data[:LONGEST].partition(b"\n---")[0] + b"\n"
    found = []
    for match in list(_AGE.finditer(head))[:_MOST]:
        kind, first = match[1].decode(), (match[2] or b"").decode("ascii", "replace")
        tagged = kind.startswith(("ssh-", "piv-")) and first
        found.append(PASSWORD if kind == "scrypt" else f"{kind} {first}" if tagged else kind)
    return tuple(dict.fromkeys(found))


class _Element(NamedTuple):
    tag: int
    start: int
    end: int
    """Of the content."""
    next: int


class _DamagedError(Exception):
    pass


def cms_keys(data: bytes) -> tuple[str, ...]:
    """Recipients of an enveloped CMS message in DER or BER (RFC 5652 section 6.2).

    A subject key identifier as hexadecimal digits, ``SERIAL@ISSUER`` with the serial number in hexadecimal digits and
    the issuer as RFC 4514 writes it, ``password``.
    """
    data = data[:LONGEST]
    try:
        at = _inside(data, 0, _SEQUENCE)
        at = _element(data, at).next  # the content type
        at = _inside(data, _inside(data, at, _CONTEXT), _SEQUENCE)
        at = _element(data, at).next  # the version
        while data[at : at + 1] == bytes((_CONTEXT,)):  # who sends, and certificates
            at = _element(data, at).next
        infos = _element(data, at)
        if infos.tag != _SET:
            return ()
        found: list[str] = []
        for info in _children(data, infos):
            found.extend(_recipients(data, info))
            if len(found) > _MOST:
                break
    except (_DamagedError, IndexError, RecursionError):
        return ()
    return tuple(dict.fromkeys(found))


def _recipients(data: bytes, info: _Element) -> Iterator[str]:
    """The keys of one RecipientInfo."""
    inner = list(_children(data, info))
    if info.tag == _SEQUENCE and len(inner) > 1:  # KeyTransRecipientInfo
        yield _identifier(data, inner[1])
    elif info.tag == _CONTEXT | 1 and inner and inner[-1].tag == _SEQUENCE:  # KeyAgreeRecipientInfo
        for key in _children(data, inner[-1]):
            yield _identifier(data, next(_children(data, key)))
    elif info.tag == _CONTEXT | 2 and len(inner) > 1:  # KEKRecipientInfo
        yield _identifier(data, inner[1])
    elif info.tag == _CONTEXT | 3:  # PasswordRecipientInfo
        yield PASSWORD


def _identifier(data: bytes, rid: _Element) -> str:
    """A SubjectKeyIdentifier, or issuer and serial number."""
    if rid.tag == _PRIMITIVE_CONTEXT:
        return data[rid.start : rid.end].hex().upper()
    inner = list(_children(data, rid))
    if not inner:
        raise _DamagedError
    if inner[0].tag in (_OCTETS, _PRIMITIVE_CONTEXT):  # RecipientKeyIdentifier, KEKIdentifier
        return data[inner[0].start : inner[0].end].hex().upper()
    serial = int.from_bytes(data[inner[1].start : inner[1].end], signed=True)
    return f"{serial:X}@{_name(data, inner[0])}"


def _name(data: bytes, name: _Element) -> str:
    """A distinguished name as RFC 4514 writes it: the last component first."""
    steps = []
    for step in _children(data, name):
        pairs = []
        for pair in _children(data, step):
            kind, value = list(_children(data, pair))[:2]
            octets = data[kind.start : kind.end].hex()
            label = _NAMES.get(octets, f"oid.{octets}")
            codec = "utf-16-be" if value.tag == _WIDE else "latin-1" if value.tag == _LATIN else "utf-8"
            text = data[value.start : value.end].decode(codec, "replace")
            pairs.append(f"{label}=" + _SPECIAL.sub(r"\\\1", text))
        steps.append("+".join(pairs))
    return ",".join(reversed(steps)).replace("\n", " ")


def _inside(data: bytes, at: int, tag: int) -> int:
    """Where the content of a constructed element begins; its end may be anywhere."""
    if data[at] != tag:
        raise _DamagedError
    length = data[at + 1]
    return at + 2 + (length & 0x7F if length > 0x80 else 0)


def _element(data: bytes, at: int, depth: int = 0) -> _Element:
    """One element (X.690 section 8.1), of definite length or not."""
    tag, length = data[at], data[at + 1]
    if tag & 0x1F == 0x1F or depth > _DEPTH:
        raise _DamagedError
    if length == 0x80:
        start = inner = at + 2
        while data[inner : inner + 2] != b"\0\0":
            inner = _element(data, inner, depth + 1).next
        return _Element(tag, start, inner, inner + 2)
    size = length & 0x7F if length & 0x80 else 0
    start = at + 2 + size
    end = start + (int.from_bytes(data[at + 2 : start]) if size else length)
    if size > 4 or end > len(data):
        raise _DamagedError
    return _Element(tag, start, end, end)


def _children(data: bytes, parent: _Element) -> Iterator[_Element]:
    at = parent.start
    while at < parent.end:
        child = _element(data, at)
        yield child
        at = child.next
