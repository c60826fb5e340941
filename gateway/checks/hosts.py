"""Host names in links: what a browser makes of them, whose they are, and whether they are made to look like another's.

Judges names alone. Refuses to look anything up: no DNS, no network; who may register names below which ending is known
from the Public Suffix List that the library carries.
"""

import ipaddress
import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote

from publicsuffixlist import PublicSuffixList

from gateway.checks.plain import plain_text

LONGEST = 253
"""Characters of a host name (RFC 1035 section 2.3.4)."""
_SPACES = re.compile(r"[\t\r\n]+")
_WEB = re.compile(r"[\x00-\x20]*(?:(?:https?|ftp):)[/\\]*([^/\\?#]*)", re.IGNORECASE)
_SAME_SCHEME = re.compile(r"[\x00-\x20]*[/\\]{2,}([^/\\?#]*)")
_MAILTO = re.compile(r"[\x00-\x20]*mailto:([^?#]*)", re.IGNORECASE)
_SCRIPT = re.compile(r"[\x00-\x20]*(?:javascript|vbscript|data):", re.IGNORECASE)
_PICTURE_DATA = re.compile(r"[\x00-\x20]*data:(?:image/(?!svg)|text/plain|,)", re.IGNORECASE)
_PORT = re.compile(r":\d*\Z")
_NUMBER = re.compile(r"(?:0x[0-9a-f]*|\d+)\Z", re.IGNORECASE)
_DOTS = str.maketrans("。．｡", "...")
_TWINS = (("rn", "m"), ("vv", "w"), ("cl", "d"))
_SHORTEST = 4
"""Letters of a name from which near misses of it are told: shorter ones are near to everything."""
_MIXABLE = frozenset({"CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "LATIN"})
"""Scripts that stand beside each other in honest names (Unicode TS 39, highly restrictive)."""
_IPV4_PARTS = 4


class Target(NamedTuple):
    """Where a link goes."""

    host: str
    """Small letters, Unicode labels as such; ``""`` when it goes to no host."""
    kind: str = ""
    """``script`` for what runs in the reader's program, ``mailto``, ``web``."""
    user: bool = False
    """True when a name stands before an ``@``: what a reader takes for the host is none."""


_NOWHERE = Target("")


def target_of(url: str) -> Target:
    """Where a browser goes for this reference (WHATWG URL section 4.4, as far as the host needs it)."""
    if not url.isprintable():
        url = _SPACES.sub("", url)
    match = _WEB.match(url) or _SAME_SCHEME.match(url)
    if match:
        user, at, rest = match[1].rpartition("@")
        return Target(host_of(rest), "web", bool(at and user))
    match = _MAILTO.match(url)
    if match:
        address = unquote(match[1].partition(",")[0])
        return Target(host_of(address.rpartition("@")[2]), "mailto") if "@" in address else _NOWHERE
    if _SCRIPT.match(url) and not _PICTURE_DATA.match(url):
        return Target("", "script")
    return _NOWHERE


@lru_cache(maxsize=4096)
def host_of(authority: str) -> str:
    """The host as it is compared: port gone, escapes resolved, small letters, punycode read; ``""`` when it is none."""
    host = _PORT.sub("", authority) if not authority.startswith("[") else authority.partition("]")[0] + "]"
    if "%" in host:
        host = unquote(host)
    host = host.strip().lower()
    if not host.isascii():
        host = unicodedata.normalize("NFKC", host[: 2 * LONGEST]).translate(_DOTS).lower()
        host = "".join(c for c in host if unicodedata.category(c) != "Cf")
    host = host.rstrip(".")
    if not host or len(host) > LONGEST or any(c in " <>\"'(),;" for c in host):
        return ""
    return ".".join(map(_read_label, host.split("."))) if "xn--" in host else host


def _read_label(label: str) -> str:
    """A label in Unicode (RFC 3492); one that cannot be read stays as it is."""
    if not label.startswith("xn--"):
        return label
    try:
        return label[4:].encode("ascii").decode("punycode").lower()
    except (UnicodeError, ValueError, OverflowError):
        return label


@lru_cache(maxsize=1)
def _suffixes() -> PublicSuffixList:
    """The list, read once: some 30 ms."""
    return PublicSuffixList()


def prepare() -> None:
    """Read the list of suffixes ahead of the first message."""
    registrable("city.example")


@lru_cache(maxsize=4096)
def registrable(host: str) -> str:
    """The part of a host that somebody registered: ``forms.city.example`` gives ``city.example``; else the host."""
    if is_address(host):
        return host
    found: str | None = _suffixes().privatesuffix(host.strip("."))
    return found or host


@lru_cache(maxsize=1024)
def known_ending(host: str) -> bool:
    """True when the last label is one under which names are given out."""
    last = host.rpartition(".")[2]
    return bool(_endings().publicsuffix(last))


@lru_cache(maxsize=1)
def _endings() -> PublicSuffixList:
    return PublicSuffixList(accept_unknown=False)


def is_address(host: str) -> bool:
    """True for an IP address in any form that a browser takes: dotted, one number, octal, hexadecimal, brackets."""
    if host.startswith("["):
        return True
    pieces = host.split(".")
    if len(pieces) > _IPV4_PARTS or not all(map(_NUMBER.match, pieces)):
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True  # octal, hexadecimal or fewer parts: only who wants to hide an address writes so
    return True


def below(host: str, domains: frozenset[str]) -> bool:
    """True for one of these domains and what stands below them."""
    while host:
        if host in domains:
            return True
        host = host.partition(".")[2]
    return False


@lru_cache(maxsize=4096)
def deceptions(host: str, domains: tuple[str, ...]) -> tuple[str, ...]:
    """Kinds of deceit in a host name: ``ip-address``, ``mixed-script``, ``look-alike``, ``other-tld``.

    ``domains``: the city's own; the names that somebody registered of them are compared.
    """
    if is_address(host):
        return ("ip-address",)
    kinds = []
    if not host.isascii() and any(map(_mixes_scripts, host.split("."))):
        kinds.append("mixed-script")
    own = _own(domains)
    if own and not below(host, frozenset(own)):
        kinds.extend(sorted({kind for mine in own if (kind := _resembles(host, mine))}))
    return tuple(kinds)


@lru_cache(maxsize=16)
def _own(domains: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(registrable(host_of(domain.removeprefix("*."))) for domain in domains))


def _mixes_scripts(label: str) -> bool:
    """Letters of several scripts in one label, other than those that are written together."""
    scripts = {unicodedata.name(c, "UNKNOWN").partition(" ")[0].partition("-")[0] for c in label if c.isalpha()}
    scripts.discard("FULLWIDTH")
    return len(scripts) > 1 and not scripts <= _MIXABLE


def _resembles(host: str, mine: str) -> str:
    """``look-alike`` or ``other-tld`` when a host that is not the city's passes for one that is."""
    if f".{host}.".find(f".{mine}.") >= 0:  # city.example.evil.test
        return "look-alike"
    theirs = registrable(host)
    name, _, ending = theirs.partition(".")
    my_name, _, my_ending = mine.partition(".")
    if skeleton(theirs) == skeleton(mine):
        return "look-alike"
    long = len(my_name) >= _SHORTEST
    if name == my_name:
        return "other-tld" if long and ending != my_ending else ""
    bare, my_bare = name.replace("-", ""), my_name.replace("-", "")
    joined = mine.replace(".", "")
    if long and (skeleton(name) == skeleton(my_name) or bare in (my_bare, joined) or near_miss(name, my_name)):
        return "look-alike"
    hyphens = mine.replace(".", "-")
    return "look-alike" if host.startswith((f"{hyphens}.", f"{hyphens}-")) else ""


def skeleton(name: str) -> str:
    """What a name looks like at a glance: confusable letters as one (Unicode TS 39), no accents, digits as letters."""
    text = plain_text(name)
    if not text.isascii():
        text = "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))
    text = text.lower()
    for pair, letter in _TWINS:
        text = text.replace(pair, letter)
    return text.translate(_LETTERS)


_LETTERS = str.maketrans({"0": "o", "1": "l", "i": "l", "|": "l", "3": "e", "5": "s", "8": "b", "7": "t", "9": "g"})


def near_miss(name: str, other: str) -> bool:
    """One slip of the finger apart: two letters swapped, one missing, one doubled."""
    shorter, longer = sorted((name, other), key=len)
    if len(longer) == len(shorter):
        wrong = [n for n in range(len(name)) if name[n] != other[n]]
        if len(wrong) != 2 or wrong[1] != wrong[0] + 1:
            return False
        first, second = wrong
        return (name[first], name[second]) == (other[second], other[first])
    if len(longer) != len(shorter) + 1:
        return False
    at = next((n for n in range(len(shorter)) if shorter[n] != longer[n]), len(shorter))
    if longer[at + 1 :] != shorter[at:]:
        return False
    # Theirs lacks a letter of ours, or has one twice.
    return shorter == name or (at > 0 and longer[at] == longer[at - 1])
