"""SMTP command arguments (RFC 5321 section 4.1): paths, parameters, XCLIENT/XFORWARD attributes.

Everything is kept as the client wrote it, for it is passed on verbatim, but for needless quoting, which RFC 5321
section 4.1.2 wants gone and which would make one mailbox look like two. What could mean two things to two servers
(control characters, white space in a path, an unquoted «<» or «>», a trailing dot, letters that IDNA maps to others) is
refused here: what a rule is asked about must be what the next hop delivers to.
"""

import re
import unicodedata
from dataclasses import dataclass

from gateway.errors import ClientError
from gateway.model.reply import Reply

_SIMPLE = re.compile(r"<([A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*)?>\Z")
_ROUTE = re.compile(r"@[^\s:,<>@]+(?:,@[^\s:,<>@]+)*:")
_ATEXT = r'[^\s"(),.:;<>@\[\\\]\x00-\x20\x7f-\x9f\ud800-\udfff]'
_LOCAL = re.compile(rf'(?:(?:{_ATEXT}|\.)+|"(?:[^"\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]|\\[\x20-\x7e])*")\Z')
_DOT_STRING = re.compile(rf"{_ATEXT}+(?:\.{_ATEXT}+)*\Z")
_QUOTED_PAIR = re.compile(r"\\(.)")
_LABEL = r"(?:[A-Za-z0-9_-]|[^\x00-\xa0\s\ud800-\udfff])+"
_DOMAIN = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[A-Za-z0-9.:-]+\])\Z")
_IGNORABLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]")
"""Letters and marks that a mapping of names leaves out (UTS 46)."""
_PARAMETER = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9-]*(?:=[^\s=\x00-\x20\x7f-\x9f\ud800-\udfff][^\s\x00-\x20\x7f-\x9f\ud800-\udfff]*)?\Z"
)
_XTEXT = re.compile(r"\+([0-9A-Fa-f]{2})")

_BAD_PATH = Reply.of(553, "5.1.3", "That is not a mail address as RFC 5321 writes it")
_TOO_LONG = Reply.of(553, "5.1.3", "That mail address is longer than RFC 5321 allows")
_BAD_PARAMETER = Reply.of(501, "5.5.4", "That is not a parameter as RFC 5321 writes it")
_NOT_ASCII = Reply.of(553, "5.6.7", "An address with characters beyond ASCII needs SMTPUTF8")

MAX_LOCAL_PART = 256
"""Octets. RFC 5321 says 64; mailing lists' return paths are longer and everybody takes them."""
MAX_PATH = 512


@dataclass(frozen=True, slots=True)
class PathArgument:
    """What MAIL and RCPT carry: an address (``""`` for the null path) and the parameters, verbatim."""

    address: str
    parameters: tuple[str, ...]

    def value(self, keyword: str) -> str | None:
        """The value of a parameter, ``""`` when it has none, None when it is not there."""
        for parameter in self.parameters:
            name, _, value = parameter.partition("=")
            if name.upper() == keyword:
                return value
        return None


def parse_path(argument: str, keyword: str) -> PathArgument | None:
    """``FROM:<a@b> SIZE=5`` -> address and parameters; None when it does not begin with ``keyword``.

    Raises :class:`ClientError` (501, 553) for what is not a path or not a parameter (RFC 5321 section 4.1.2).
    """
    if argument[: len(keyword)].upper() != keyword:
        return None
    rest = argument[len(keyword) :].lstrip(" ")
    end = _path_end(rest)
    path, tail = rest[:end], rest[end:]
    if tail and tail[0] != " ":
        raise ClientError("path is followed by something else", _BAD_PATH)
    simple = _SIMPLE.match(path)
    address = (simple[1] or "") if simple else _full_path(path)
    if len(address) > 64 and (len(address) > MAX_PATH or len(address.rpartition("@")[0]) > MAX_LOCAL_PART):
        raise ClientError("path too long", _TOO_LONG)
    return PathArgument(address, parse_parameters(tail) if tail else ())


def _path_end(text: str) -> int:
    """Where the path ends: behind the «>» that is not in a quoted string."""
    if '"' not in text:
        end = text.find(">")
        return end + 1 if end >= 0 else len(text)
    quoted = escaped = False
    for index, character in enumerate(text):
        if escaped:
            escaped = False
        elif quoted and character == "\\":
            escaped = True
        elif character == '"':
            quoted = not quoted
        elif character == ">" and not quoted:
            return index + 1
    return len(text)


def _full_path(path: str) -> str:
    """A path beyond the simple form: source route (dropped, RFC 5321 appendix C), quoted local-part, literal, UTF-8.

    A quoted local-part comes back with as little quoting as it needs.
    """
    if not (path.startswith("<") and path.endswith(">")):
        raise ClientError("path is not in angle brackets", _BAD_PATH)
    inner = path[1:-1]
    route = _ROUTE.match(inner)
    if route:
        inner = inner[route.end() :]
    if inner.lower() == "postmaster":
        return inner
    local, at, domain = inner.rpartition("@")
    if not at or not _LOCAL.match(local) or not _DOMAIN.match(domain):
        raise ClientError("path is not local-part@domain", _BAD_PATH)
    if not domain.isascii() and not _is_plain(domain):
        raise ClientError("domain has characters that stand for others", _BAD_PATH)
    if local.startswith('"'):
        return f"{_least_quoted(local)}@{domain}"
    return inner


def unquoted(local: str) -> str:
    """The local-part that is meant: without quotes and backslashes (RFC 5321 section 4.1.2)."""
    return _QUOTED_PAIR.sub(r"\1", local[1:-1]) if local.startswith('"') else local


def _least_quoted(local: str) -> str:
    meant = unquoted(local)
    if _DOT_STRING.match(meant):
        return meant
    return '"' + meant.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _is_plain(domain: str) -> bool:
    """True when no mapping (RFC 5895, UTS 46) makes another name of it but for case.

    Full-width letters and their like would pass a rule under one name and arrive under another.
    """
    return (
        unicodedata.normalize("NFKC", domain) == domain
        and not _IGNORABLE.search(domain)
        and all(c in "-._" or unicodedata.category(c)[0] in "LMN" for c in domain)
    )


def parse_parameters(text: str) -> tuple[str, ...]:
    """Parameters behind a path, verbatim. Raises :class:`ClientError` for a malformed or repeated one."""
    parameters = tuple(text.split())
    seen = set()
    for parameter in parameters:
        if not _PARAMETER.match(parameter):
            raise ClientError(f"malformed parameter {parameter!r}", _BAD_PARAMETER)
        name = parameter.partition("=")[0].upper()
        if name in seen:
            raise ClientError(f"repeated parameter {name}", _BAD_PARAMETER)
        seen.add(name)
    return parameters


def require_ascii(address: str) -> None:
    """Raise :class:`ClientError` 553 5.6.7 when the address needs SMTPUTF8 (RFC 6531 section 3.4)."""
    if not address.isascii():
        raise ClientError("address is not ASCII", _NOT_ASCII)


def decode_xtext(text: str) -> str:
    """RFC 3461 section 4 xtext. Octets that are not UTF-8 and control characters become «?»."""
    if "+" not in text:
        return text
    raw = _XTEXT.sub(lambda m: chr(int(m[1], 16)), text).encode("latin-1", "replace")
    decoded = raw.decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "?" for c in decoded)


def parse_attributes(argument: str, known: frozenset[str]) -> dict[str, str]:
    """``NAME=a ADDR=b`` of XCLIENT and XFORWARD -> upper-case names to decoded values.

    ``[UNAVAILABLE]`` and ``[TEMPUNAVAIL]`` become ``""``. Raises :class:`ClientError` 501 5.5.4.
    """
    found = {}
    for item in argument.split():
        name, equals, value = item.partition("=")
        if not equals or name.upper() not in known:
            raise ClientError(f"bad attribute {item!r}", Reply.of(501, "5.5.4", "Bad or unknown attribute"))
        decoded = decode_xtext(value)
        if not decoded.isprintable():
            decoded = "".join(c if c.isprintable() else "?" for c in decoded)
        found[name.upper()] = "" if decoded.upper() in ("[UNAVAILABLE]", "[TEMPUNAVAIL]") else decoded
    return found
