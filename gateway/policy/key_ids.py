"""Ids of keys as rules and messages name them: OpenPGP key ids and fingerprints, S/MIME serial numbers and issuers.

Refuses to call keys the same because a part of their ids is.
"""

import re

_AROUND = re.compile(r"\s*([,=+])\s*")
_KEY_ID, _V4, _V6 = 16, 40, 64
"""Hexadecimal digits of an OpenPGP key id and of fingerprints of versions 4 and 6."""


def key_form(key: str) -> str:
    """An id of a key as ids are compared: small letters, no ``0x``, no space around ``,`` and ``=``."""
    serial, at, issuer = key.strip().lower().partition("@")
    if at:
        tight = _AROUND.sub(r"\1", issuer.strip())
        return f"{serial.replace(':', '').lstrip('0') or '0'}@{tight}"
    return serial.removeprefix("0x")


def same_key(one: str, other: str) -> bool:
    """True for equal ids, and for an OpenPGP fingerprint and its key id (RFC 9580 section 5.5.4). Forms compared."""
    if one == other:
        return True
    short, long = sorted((one, other), key=len)
    if len(short) != _KEY_ID or "@" in long:
        return False
    return (len(long) == _V4 and long.endswith(short)) or (len(long) == _V6 and long.startswith(short))
