"""SMTP command arguments (RFC 5321 section 4.1): paths, parameters, XCLIENT/XFORWARD attributes.

Everything is kept as the client wrote it, for it is passed on verbatim; what could mean two things to two servers
(control characters, white space in a path, an unquoted «<» or «>») is refused here.
"""

import re
from dataclasses import dataclass

from gateway.errors import ClientError
from gateway.model.reply import Reply

_SIMPLE = re.compile(r"<([A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*)?>\Z")
_ROUTE = re.compile(r"@[^\s:,<>@]+(?:,@[^\s:,<>@]+)*:")
_LOCAL = re.compile(r'(?:[^\s"(),:;<>@\[\\\]\x00-\x20\x7f]+|"(?:[^"\\\x00-\x1f\x7f]|\\[\x20-\x7e])*")\Z')
_DOMAIN = re.compile(r"(?:[^\s@<>()\[\]\\,;:\"\x00-\x20\x7f]+|\[[A-Za-z0-9.:-]+\])\Z")
_PARAMETER = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*(?:=[^\s=\x00-\x20\x7f][^\s\x00-\x20\x7f]*)?\Z")
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
    """A path beyond the simple form: source route (dropped, RFC 5321 appendix C), quoted local-part, literal, UTF-8."""
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
    return inner


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
        found[name.upper()] = "" if decoded.upper() in ("[UNAVAILABLE]", "[TEMPUNAVAIL]") else decoded
    return found
