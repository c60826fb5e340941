"""Links in a message: whether their words name another host than they go to, and hosts that are made to deceive.

Collects from HTML, plain text and files; says each kind and host once. Refuses to keep or show anything of a link but
host names: what stands behind them can hold names and keys of people.
"""

import html as entities
import re
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import unquote

from gateway.checks.hosts import Target, below, deceptions, host_of, known_ending, registrable, target_of
from gateway.checks.plain import plain_text
from gateway.checks.tags import Tags, attributes
from gateway.model.finding import Check, Finding

MAX_LINKS = 100
"""Findings a kind; the last one carries the count of the rest."""
_MOST_IN_TEXT = 2000
_LONGEST_WORDS = 2000
"""Octets of a link's words that are looked at."""
_HREF = re.compile(rb"""(?<![^\s"'/])href\s*+=\s*+(?:"([^"]*+)"|'([^']*+)'|([^\s"'>]++))""", re.IGNORECASE)
_FIRST_HREF = re.compile(rb"""\s*+href="([^"<>]*+)\"""")
"""The same where nearly every program puts it."""
_REFRESH = re.compile(r"url\s*=\s*[\"']?([^\"']+)", re.IGNORECASE)
_TAG = re.compile(rb"<[^>]*+>?")
_IN_TEXT = re.compile(rb"://[^\s<>\"'|\\^`{}\x00]{1,2000}")
_SCHEMES = (b"https", b"http", b"ftp")
_WORDY = re.compile(r"(?:(?:https?|ftp):/*|www\.)([^\s/\\?#<>\"'(),;]+)", re.IGNORECASE)
_ALONE = re.compile(r"(?:[\w-]+\.)+[^\W\d_]{2,24}(?=[/:?#]|\Z)")
_ADDRESS = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@((?:[\w-]+\.)+[^\W\d_]{2,24})")
_FILE_ENDINGS = frozenset({"zip", "mov", "sh", "py", "pl", "md", "rs", "ps", "app", "foo", "doc", "pub", "ai", "in"})
"""Endings under which names are given out that also end names of files and sentences."""
_NESTED = re.compile(r"https?:/{1,3}([^/?#&\s\"'<>_]+)", re.IGNORECASE)
_DEEPEST = 3
_PROOFPOINT = re.compile(r"u=https?-3A__([A-Za-z0-9.-]+)")
_SHOWN = 100


class Links:
    """The links of one message. ``domains``: the city's own; ``wrappers``: hosts that wrap links of others."""

    def __init__(self, domains: tuple[str, ...], wrappers: tuple[str, ...]) -> None:
        self._domains = domains
        self._wrappers = frozenset(wrappers)
        self._hosts: dict[str, tuple[tuple[str, ...], bool]] = {}
        """Kinds of deceit of a host, and whether it wraps links of others."""
        self._seen: dict[tuple[str, str], Finding] = {}
        self._counts: dict[tuple[str, str], int] = {}

    def read_html(self, data: bytes, tags: Tags, part: str) -> None:
        """All links of a document (UTF-8 or another encoding that extends ASCII)."""
        base = ""
        for tag in tags.found:
            if tag.name == "base":
                base = base or attributes(data, tag).get("href", "")
                self.one(base, b"", part)
        for url, words in links_of(data, tags):
            self.one(url, words, part, base)
        for tag in tags.found:
            if tag.name in ("area", "form", "meta"):
                self._other(tag.name, attributes(data, tag), part, base)

    def _other(self, name: str, found: dict[str, str], part: str, base: str) -> None:
        if name == "area":
            self.one(found.get("href", ""), found.get("alt", "").encode(), part, base)
        elif name == "form":
            target = self.one(found.get("action", ""), b"", part, base)
            if target and target.host and not self._is_own(target.host):
                self._note("form", target.host, part, f"a form sends to {target.host}")
        elif found.get("http-equiv", "").lower() == "refresh":
            match = _REFRESH.search(found.get("content", ""))
            if match:
                self.one(match[1], b"", part, base)

    def read_text(self, data: bytes, part: str) -> None:
        """Links in plain text, which readers make of what begins like one."""
        if b"://" not in data:
            return
        for number, match in enumerate(_IN_TEXT.finditer(data)):
            if number >= _MOST_IN_TEXT:
                return
            start = match.start()
            if data[max(0, start - 5) : start].lower().endswith(_SCHEMES):
                self.one("http" + match[0].decode("utf-8", "replace"), b"", part)

    def one(self, url: str, words: bytes, part: str, base: str = "") -> Target | None:
        """One link and the words (HTML) that a reader sees of it."""
        target = target_of(url)
        if not target.kind and base and url:
            target = target_of(base)
        if target.kind == "script":
            self._note("script", "", part, "a link that runs a script")
        if not target.host:
            return None
        kinds, wraps = self._judged(target.host)
        for kind in kinds if target.kind == "web" else ():
            self._note(kind, target.host, part, target.host)
        if target.user:
            self._note("user-info", target.host, part, f"goes to {target.host}, whatever stands before the @")
        real = self._unwrapped(url, target.host) if wraps else target.host
        if real and real != target.host:
            for kind in self._judged(real)[0]:
                self._note(kind, real, part, f"{real} behind {target.host}")
        if words and real and (b"." in words or not words.isascii() or b"&" in words):
            self._compare(words, real, part)
        return target

    def _judged(self, host: str) -> tuple[tuple[str, ...], bool]:
        known = self._hosts.get(host)
        if known is None:
            known = self._hosts[host] = (deceptions(host, self._domains), below(host, self._wrappers))
        return known

    def _compare(self, words: bytes, real: str, part: str) -> None:
        text = entities.unescape(_TAG.sub(b"", words).decode("utf-8", "replace")).strip()
        named = named_host(text)
        if named and registrable(named) != registrable(real):
            self._note("text-mismatch", real, part, f"names {named}, goes to {real}")

    def _unwrapped(self, url: str, host: str) -> str:
        """The host behind a wrapper, ``""`` when the wrapper does not say; any other host as it is."""
        for _ in range(_DEEPEST):
            if not self._judged(host)[1]:
                return host
            rest = url.partition("://")[2].partition("/")[2] if "://" in url else url
            for _ in range(2):
                rest = unquote(rest)
            match = _NESTED.search(rest) or _PROOFPOINT.search(rest)
            if not match:
                return ""
            url, host = rest[match.start() :], host_of(match[1].rpartition("@")[2])
        return host

    def _is_own(self, host: str) -> bool:
        return below(host, frozenset(domain.removeprefix("*.") for domain in self._domains))

    def _note(self, kind: str, host: str, part: str, evidence: str) -> None:
        key = (kind, host)
        self._counts[key] = self._counts.get(key, 0) + 1
        if key not in self._seen:
            shown = "".join(c if c.isprintable() else "?" for c in evidence)[: 2 * _SHOWN]
            self._seen[key] = Finding(Check.LINK, kind, host, part, evidence=shown)

    def findings(self) -> Iterator[Finding]:
        """Each kind and host once, with how many links there are of it."""
        kinds: dict[str, list[Finding]] = {}
        for finding in self._seen.values():
            kinds.setdefault(finding.kind, []).append(finding)
        for kind, rows in kinds.items():
            shown = rows[:MAX_LINKS]
            for row in shown:
                count = self._counts[kind, row.value]
                if row is shown[-1]:
                    count += sum(self._counts[kind, more.value] for more in rows[MAX_LINKS:])
                yield replace(row, count=count)


def links_of(data: bytes, tags: Tags) -> Iterator[tuple[str, bytes]]:
    """Targets and words (HTML) of a document's ordinary links, some thousands at most."""
    for number, tag in enumerate(tags.found):
        if tag.name != "a":
            continue
        match = _FIRST_HREF.match(data, tag.start) or _HREF.search(data, tag.start, tag.end)
        if match:
            follows = tags.found[number + 1] if number + 1 < len(tags.found) else None
            stop = follows.start if follows and follows.name in ("/a", "a") else tag.end + _LONGEST_WORDS
            yield _text(match[match.lastindex or 0]), data[tag.end : min(stop, tag.end + _LONGEST_WORDS)]


def named_host(text: str) -> str:
    """The host that a link's words name: of a URL or an address anywhere, or one that is all of them; else ``""``."""
    text = plain_text(text)
    match = _WORDY.search(text)
    if match:
        authority = match[1].rpartition("@")[2] if match[0][:4].lower() != "www." else match[0]
        return "" if _is_cut(text, match.end()) else _host(authority)
    match = _ADDRESS.search(text)
    if match:
        return "" if _is_cut(text, match.end()) else _host(match[1])
    match = _ALONE.match(text)
    if not match or " " in text or _is_cut(text, match.end()):
        return ""
    host = _host(match[0])
    return host if host.rpartition(".")[2] not in _FILE_ENDINGS and known_ending(host) else ""


def _host(authority: str) -> str:
    host = host_of(authority.rstrip(".:"))
    return host if "." in host else ""


def _is_cut(text: str, end: int) -> bool:
    """An ellipsis behind it: only a part of the host is shown."""
    return text.startswith(("…", "..."), end) or text[:end].endswith(("…", ".."))


def _text(raw: bytes) -> str:
    text = raw.decode("utf-8", "replace")
    return entities.unescape(text) if "&" in text else text
