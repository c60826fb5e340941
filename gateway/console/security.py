"""What every request must pass and every answer carries: host, sizes, origin, headers. Plain ASGI, around everything.

Refuses, before any page runs: a Host that is not ours, a path outside the prefix, a request that is too large, a method
that no page has; and, for what changes something, a request that another site made a browser send.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.types import Message, Receive, Scope, Send

from gateway.settings import ConsoleSettings, Networks

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; frame-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'"
)
"""A page that needs a narrower one (mail shown inside a frame) sets its own; none may be wider."""
_ALWAYS = {
    "x-content-type-options": "nosniff",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "x-robots-tag": "noindex",
}
_UNLESS_SET = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-frame-options": "DENY",
    "cache-control": "no-store",
    "referrer-policy": "same-origin",  # «no-referrer» would make browsers say «Origin: null» in our own forms
}
NO_PATH = "strict-origin"
"""The Referrer-Policy of pages whose address is a secret: a proxy would log it as the Referer of what they load."""
_HSTS = "max-age=31536000"
MAX_PATH = 2048
"""Octets of path and query together."""
MAX_HEADERS = 16_384
"""Octets of all header fields together; uvicorn's own limit lies behind it."""
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


PATIENCE = 30.0
"""Seconds to wait for the next octets of a body."""
WHOLE = 120.0
"""Seconds for a whole body: an octet now and then would hold a connection for days."""


class TooLargeError(Exception):
    """The body is larger than the setting allows."""


class TooSlowError(Exception):
    """Nothing came of the body for too long."""


@dataclass(frozen=True)
class Gate:
    """The settings in the form in which requests are compared with them."""

    settings: ConsoleSettings
    hosts: frozenset[str] = field(init=False)
    origin: str = field(init=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.settings.url)
        default = 443 if parts.scheme == "https" else 80
        port = parts.port or default
        name = _bracketed(parts.hostname or "")
        names = {name} if self.settings.base_url else {name, "localhost", "127.0.0.1", "[::1]"}
        ends = {f":{port}", ""} if port == default else {f":{port}"}
        object.__setattr__(self, "hosts", frozenset(n + end for n in names for end in ends))
        object.__setattr__(self, "origin", f"{parts.scheme}://{name}" + ("" if port == default else f":{port}"))

    def knows(self, host: str) -> bool:
        """Whether this Host header is one of ours."""
        return host.lower() in self.hosts

    def same_origin(self, headers: "HeaderFields", host: str) -> bool:
        """Did one of our own pages send it, as far as the browser says? Who says nothing has the token to show.

        Fetch Metadata first (every browser since 2023), the Origin field beside it.
        """
        site, origin = headers.one("sec-fetch-site"), headers.one("origin")
        if site not in ("", "same-origin", "none"):
            return False
        if not origin:
            return True
        return origin.lower() in {self.origin, self.origin.partition("://")[0] + "://" + host.lower()}

    def client(self, peer: str, headers: "HeaderFields") -> str:
        """The address of the client's machine: the last one in X-Forwarded-For that no trusted proxy has.

        Without a trusted peer the header is what a stranger wrote, and not read.
        """
        trusted = self.settings.trusted_proxies
        forwarded = [part.strip() for value in headers.all("x-forwarded-for") for part in value.split(",")]
        while forwarded and within(peer, trusted):
            nearer = forwarded.pop()
            try:
                peer = str(ip_address(_without_port(nearer)))
            except ValueError:
                break
        return peer


def _without_port(text: str) -> str:
    """An address as some proxies write it: ``192.0.2.1:4711``, ``[2001:db8::1]:4711``."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def within(address: str, networks: Networks) -> bool:
    """Whether an address lies in one of these networks; IPv4 inside IPv6 counts as IPv4."""
    try:
        found = ip_address(address)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None) or found
    return any(mapped in network for network in networks if network.version == mapped.version)


class HeaderFields:
    """The header fields of a request, by name."""

    def __init__(self, raw: Iterable[tuple[bytes, bytes]]) -> None:
        self._fields: dict[str, list[str]] = {}
        self.octets = 0
        for name, value in raw:
            self.octets += len(name) + len(value) + 4
            self._fields.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))

    def all(self, name: str) -> list[str]:
        """Every value."""
        return self._fields.get(name, [])

    def one(self, name: str) -> str:
        """The only value; ``""`` when there is none, something that fits nothing when there are several."""
        values = self.all(name)
        return "" if not values else values[0] if len(values) == 1 else "\0several"


def guarded(send: Send, settings: ConsoleSettings) -> Send:
    """Adds to every answer what it must carry."""

    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = [(name.lower(), value) for name, value in message.get("headers", ())]
            present = {name for name, _ in given}
            added = [(n.encode(), v.encode()) for n, v in _ALWAYS.items()]
            added += [(n.encode(), v.encode()) for n, v in _UNLESS_SET.items() if n.encode() not in present]
            if settings.secure:
                added.append((b"strict-transport-security", _HSTS.encode()))
            names = {name for name, _ in added}
            message = {**message, "headers": [row for row in given if row[0] not in names] + added}
        await send(message)

    return with_headers


def bounded(receive: Receive, most: int) -> Receive:
    """Raises TooLargeError when more octets of body come than may, TooSlowError when none come, or too slowly."""
    left, end = most, 0.0

    async def counted() -> Message:
        nonlocal left, end
        now = asyncio.get_running_loop().time()
        end = end or now + WHOLE
        try:
            async with asyncio.timeout_at(min(now + PATIENCE, end)):
                message = await receive()
        except TimeoutError as error:
            raise TooSlowError from error
        if message["type"] == "http.request":
            left -= len(message.get("body", b""))
            if left < 0:
                raise TooLargeError
        return message

    return counted


def declared_size(headers: HeaderFields) -> int | None:
    """Content-Length; 0 without one, None when it is no number."""
    text = headers.one("content-length")
    if not text:
        return 0
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


def inner_path(path: str, prefix: str) -> str | None:
    """The path below the prefix, whether or not the proxy took it off; None for one that has ``.``, ``..`` or NUL."""
    if prefix and (path == prefix or path.startswith(prefix + "/")):
        path = path[len(prefix) :] or "/"
    odd = not path.startswith("/") or "\\" in path or any(not c.isprintable() for c in path)
    return None if odd or any(part in (".", "..") for part in path.split("/")) else path


def scope_headers(scope: Scope) -> HeaderFields:
    """Those of an ASGI scope."""
    return HeaderFields(scope["headers"])
