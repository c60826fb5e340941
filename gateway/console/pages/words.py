"""Times, sizes, states and events in plain words, and text from strangers made harmless to look at.

Refuses to let a stranger's text reorder, hide or overwrite what stands beside it: such characters become visible.
"""

import re
import unicodedata
from dataclasses import dataclass
from datetime import datetime, timedelta

_STRETCHES = ((timedelta(days=2), timedelta(days=1), "day"), (timedelta(minutes=90), timedelta(hours=1), "hour"))
SOON = timedelta(hours=6)
"""An end that is nearer than this is set off."""
_KEPT_FORMATS = frozenset("\u200c\u200d\u00ad")
"""Joiners that scripts and emoji need, and soft hyphens: they move nothing."""


@dataclass(frozen=True, slots=True)
class When:
    """One time, for people and for programs."""

    iso: str
    text: str
    """Absolute, with the zone."""
    relative: str
    """«in 5 hours», «3 days ago»."""
    kind: str = ""
    """``soon`` or ``past`` for ends that ask for haste."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A state in words, with its colour's name."""

    name: str
    kind: str
    """``good``, ``warn``, ``bad``, ``note`` or ``""``."""
    text: str = ""
    """What it means for the message."""


STATES: dict[str, Shown] = {
    "attesting": Shown("Waits for sender", "warn", "Its sender has to confirm something before anybody is asked."),
    "held": Shown("Waiting", "warn", "It waits for a decision. Nothing has been delivered to these recipients."),
    "approved": Shown("Approved", "note", "Everybody who was needed has approved. It leaves in a moment."),
    "releasing": Shown("On its way", "note", "The mail server is being given it, perhaps not at the first attempt."),
    "released": Shown("Delivered", "good", "The mail server has taken it."),
    "refused": Shown("Refused by mail server", "bad", "The mail server would not take it. The sender was told."),
    "rejected": Shown("Rejected", "bad", "It was not approved. It goes back to its sender with the reason."),
    "expired": Shown("Expired", "", "Nobody decided in time. It goes back to its sender."),
    "withdrawn": Shown("Withdrawn", "", "Its sender took it back. Nobody gets it."),
    "returned": Shown("Returned", "", "The sender has it back, with the reason."),
    "damaged": Shown("Damaged", "bad", "The stored message is not what was accepted. It can never be delivered."),
}
EVENTS: dict[str, str] = {
    "held": "Held",
    "approve": "Approved; more approvals needed",
    "complete": "Approved; all approvals are there",
    "reject": "Rejected",
    "expire": "Expired: nobody decided in time",
    "start": "Delivery began",
    "delivered": "Delivered",
    "refuse": "The mail server refused it",
    "hold-again": "Held again: it could not be changed as the rules ask",
    "return": "Given back to the sender",
    "damage": "Found damaged",
    "view": "Read",
    "comment": "Comment",
    "withdraw": "Withdrawn by the sender",
    "attest": "Confirmed by the sender",
    "remind": "Approvers reminded",
    "escalate": "Escalated: further people were asked",
    "split": "Some recipients were parted from it",
    "exception-added": "Exception granted",
    "exception-used": "Exception used",
    "exception-given-back": "Use given back",
    "exception-revoked": "Exception revoked",
}
ACCOUNT_EVENTS: dict[str, str] = {
    "account-added": "Account made",
    "account-disabled": "Disabled",
    "account-enabled": "Enabled",
    "admin-granted": "Made an administrator",
    "admin-revoked": "No administrator any more",
    "setup-link-made": "Link for setting a password made",
    "password-set": "Password set",
    "totp-enrolled": "Second factor set up",
    "totp-reset": "Second factor taken away",
    "recovery-codes-made": "New recovery codes made",
    "recovery-code-used": "Recovery code used",
    "logged-in": "Logged in",
    "logged-out": "Logged out, or one session ended",
    "sessions-ended": "Sessions ended",
    "token-added": "API token made",
    "token-revoked": "API token revoked",
}


def when(at: datetime, now: datetime, *, end: bool = False) -> When:
    """A time in the machine's zone. ``end``: something is over then, so nearness is worth a colour."""
    local = at.astimezone()
    kind = "" if not end else "past" if at <= now else "soon" if at - now < SOON else ""
    return When(local.isoformat(timespec="seconds"), f"{local:%d %b %Y, %H:%M %Z}", relative(at, now), kind)


def relative(at: datetime, now: datetime) -> str:
    """«in 5 hours», «20 minutes ago», «just now»."""
    words = stretch(abs(at - now))
    if not words:
        return "just now" if at <= now else "in a moment"
    return f"in {words}" if at > now else f"{words} ago"


def stretch(length: timedelta) -> str:
    """«3 days», «5 hours», «20 minutes»; ``""`` for less than a minute."""
    for least, unit, name in _STRETCHES:
        if length >= least:
            count = length // unit
            return f"{count} {name}{'s' if count > 1 else ''}"
    minutes = length // timedelta(minutes=1)
    return f"{minutes} minute{'s' if minutes > 1 else ''}" if minutes else ""


def size(octets: int) -> str:
    """«12 KB», «3.4 MB»: decimal units, as mail programs show them."""
    if octets < 1000:
        return f"{octets} bytes" if octets != 1 else "1 byte"
    for unit in ("KB", "MB", "GB"):
        amount = octets / 1000
        octets //= 1000
        if amount < 1000 or unit == "GB":
            return f"{amount:.1f} {unit}" if amount < 10 else f"{amount:.0f} {unit}"
    raise AssertionError("units end with GB")


def state(value: str) -> Shown:
    """A state in words; one that these words do not know yet shows as it is."""
    return STATES.get(value, Shown(value.replace("-", " ").capitalize(), ""))


def event(name: str) -> str:
    """An event in words."""
    return EVENTS.get(name, name.replace("-", " ").capitalize())


_BROWSERS = (("Edg", "Edge"), ("OPR", "Opera"), ("Firefox", "Firefox"), ("Chrome", "Chrome"), ("Version", "Safari"))
_SYSTEMS = (("Windows", "Windows"), ("iPhone", "iPhone"), ("iPad", "iPad"), ("Mac OS X", "Mac"), ("Android", "Android"),
            ("CrOS", "ChromeOS"), ("Linux", "Linux"))  # fmt: skip


def browser(agent: str) -> str:
    """«Firefox 140 on Linux»; what does not look like a browser as it is, harmless to look at."""
    found = ((name, re.search(rf"\b{mark}/(\d+)", agent)) for mark, name in _BROWSERS)
    what = next((f"{name} {match[1]}" for name, match in found if match), "")
    where = next((name for mark, name in _SYSTEMS if mark in agent), "")
    if not what or not agent.startswith("Mozilla/"):
        return harmless(agent[:120]) or "unknown browser"
    return f"{what} on {where}" if where else what


def account_event(name: str) -> str:
    """An event of an account in words."""
    return ACCOUNT_EVENTS.get(name, name.replace("-", " ").capitalize())


def harmless(text: str, *, lines: bool = False) -> str:
    """Text from a stranger: characters that are not seen, or turn the order of others, are written as ``[U+202E]``.

    ``lines``: line feeds and tabs stay. Right-to-left letters stay as they are: pages set them apart with ``<bdi>``.
    """
    if text.isprintable() and text.isascii():
        return text
    return "".join(c if _harmless(c) or (lines and c in "\n\t") else f"[U+{ord(c):04X}]" for c in text)


def _harmless(character: str) -> bool:
    if character.isprintable() or character in _KEPT_FORMATS:
        return True
    return unicodedata.category(character) == "Zs"


def count_of(number: int, one: str, many: str = "") -> str:
    """«1 person», «3 people»."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
