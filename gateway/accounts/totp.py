"""One-time codes by time (RFC 6238: SHA-1, 6 digits, 30 s, as every authenticator app does it), and recovery codes.

Refuses a code of a step that was used already or lies before one: what somebody saw over a shoulder is worthless.
"""

import base64
import hashlib
import hmac
import secrets
from datetime import datetime
from urllib.parse import quote, urlencode

STEP = 30
DIGITS = 6
_AROUND = 1
"""Steps by which the phone's clock may be off, either way."""
RECOVERY_CODES = 10


def code_at(secret: str, step: int) -> str:
    """The code of one step (RFC 4226 section 5.3)."""
    key = base64.b32decode(secret + "=" * (-len(secret) % 8), casefold=True)
    mac = hmac.new(key, step.to_bytes(8, "big"), hashlib.sha1).digest()
    offset = mac[-1] & 15
    number = int.from_bytes(mac[offset : offset + 4], "big") & 0x7FFFFFFF
    return f"{number % 10**DIGITS:0{DIGITS}}"


def step_at(now: datetime) -> int:
    """The step that a moment lies in."""
    return int(now.timestamp()) // STEP


def matching_step(secret: str, code: str, now: datetime, used: int) -> int | None:
    """The step whose code this is, when it is near now and later than the last that was ``used``; else None."""
    plain = code.replace(" ", "")
    found = None
    for step in range(step_at(now) - _AROUND, step_at(now) + _AROUND + 1):
        right = hmac.compare_digest(code_at(secret, step).encode(), plain.encode("utf-8", "surrogatepass"))
        if right and step > used:
            found = step
    return found


def from_digest(hexadecimal: str) -> str:
    """160 bits of a random digest as a secret (base32, 32 characters)."""
    return base64.b32encode(bytes.fromhex(hexadecimal)[:20]).decode()


def address_of(secret: str, account: str, issuer: str) -> str:
    """What the QR code says (the key URI format that authenticator apps read)."""
    more = urlencode({"secret": secret, "issuer": issuer, "digits": DIGITS, "period": STEP}, quote_via=quote)
    return f"otpauth://totp/{quote(issuer)}:{quote(account)}?{more}"


def recovery_code() -> str:
    """80 random bits to write on paper: ``abcd-efgh-ijkl-mnop``."""
    text = base64.b32encode(secrets.token_bytes(10)).decode().lower()
    return "-".join(text[at : at + 4] for at in range(0, 16, 4))


def plain_recovery(code: str) -> str:
    """A recovery code as people type it, in the form that is compared."""
    return "".join(c for c in code.lower() if c.isalnum())
