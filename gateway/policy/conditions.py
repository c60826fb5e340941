"""The conditions that a rule can ask, compiled: each answers yes, no or unknown about one message and one recipient.

Refuses to guess, as :mod:`gateway.policy.logic` does: what is found is certain, what is not found is certain only when
the check has answered.
"""

import fnmatch
import re
from collections.abc import Iterable
from typing import Any

import re2

from gateway.model.envelope import CITY_WIDE, Direction, ExceptionRecord, Recipient, a_labels, domain_of, fold
from gateway.model.finding import QUOTED, Check, Confidence, Finding, Near, published_mark
from gateway.policy.logic import NO, UNKNOWN, YES, Aspect, Facts, Node

AUTO_SUBMITTED = "auto-submitted"
CLASSES = {
    "media": (
        *("audio/*", "video/*", "application/ogg", "application/mp4", "application/mxf", "application/x-matroska"),
        *("application/vnd.rn-realmedia*", "application/vnd.apple.mpegurl", "application/x-shockwave-flash"),
    ),
    "image": ("image/*",),
    "archive": (
        *("application/zip", "application/x-rar", "application/vnd.rar", "application/x-7z-compressed"),
        *("application/*gzip", "application/x-bzip2", "application/x-xz", "application/x-tar", "application/zstd"),
        *("application/x-lzma", "application/x-lzh*", "application/x-iso9660-image"),
        "application/vnd.ms-cab-compressed",
    ),
    "document": (
        *("application/pdf", "application/msword", "application/vnd.ms-*", "application/vnd.openxmlformats-*"),
        *("application/vnd.oasis.opendocument*", "application/rtf", "text/rtf", "application/cdfv2", "text/csv"),
    ),
}
"""Classes of attachments by their real types."""
_AROUND = re.compile(r"\s*([,=+])\s*")
_KEY_ID, _V4, _V6 = 16, 40, 64
"""Hexadecimal digits of an OpenPGP key id and of fingerprints of versions 4 and 6."""


class Names:
    """Folded names to match against: exact ones in a set, ``*`` and ``?`` patterns as one expression."""

    __slots__ = ("exact", "pattern", "words")

    def __init__(self, values: Iterable[str]) -> None:
        folded = [value.lower() for value in values]
        self.words = ", ".join(folded)
        self.exact = frozenset(v for v in folded if "*" not in v and "?" not in v)
        globs = [v for v in folded if v not in self.exact]
        # fnmatch's translation is free of exponential backtracking; a bracket stands for itself here.
        joined = "|".join(fnmatch.translate(g.replace("[", "[[]")) for g in globs)
        self.pattern = re.compile(joined) if globs else None

    def match(self, folded: str) -> bool:
        """True when ``folded`` is one of the names or fits a pattern."""
        return folded in self.exact or (self.pattern is not None and self.pattern.match(folded) is not None)

    def match_any(self, values: Iterable[str]) -> bool:
        """True when one of the values, folded here, matches."""
        return any(self.match(value.lower()) for value in values)


def _list(findings: Iterable[Finding], shown: int = 3) -> str:
    rows = list(findings)
    texts = [" ".join(filter(None, (f.kind, f"in part {f.part}" if f.part else "", f.evidence))) for f in rows[:shown]]
    return "; ".join([*texts, *([f"and {len(rows) - shown} more"] if len(rows) > shown else [])])


class DirectionIs(Node):
    """Which way the message goes for the recipient."""

    __slots__ = ("directions",)
    aspects, early = Aspect.DIRECTION, True

    def __init__(self, directions: Iterable[Direction]) -> None:
        self.directions = tuple(directions)

    def value(self, facts: Facts, recipient: Recipient | None) -> int:
        if recipient is None:
            return UNKNOWN
        return YES if recipient.direction in self.directions else NO

    def words(self) -> str:
        return "direction is " + " or ".join(self.directions)


class SenderIs(Node):
    """The reverse-path and its directory facts. Always known."""

    __slots__ = ("address", "departments", "domain", "lists", "marks", "null", "text")
    early = True

    def __init__(self, spec: Any) -> None:
        self.address = Names(map(_folded, spec.address)) if spec.address else None
        self.domain = Names(map(a_labels, spec.domain)) if spec.domain else None
        self.marks = frozenset(spec.mark)
        self.lists = Names(spec.list) if spec.list else None
        self.departments = Names(spec.department) if spec.department else None
        self.null = spec.null
        self.text = "sender " + _spec_words(spec)

    def value(self, facts: Facts, recipient: Recipient | None) -> int:
        sender = facts.envelope.sender
        holds = (
            (not self.null or facts.sender == "")
            and (not self.marks or not self.marks.isdisjoint(sender.marks))
            and (self.address is None or self.address.match(facts.sender))
            and (self.domain is None or self.domain.match(facts.domain))
            and (self.departments is None or self.departments.match(sender.department.lower()))
            and (self.lists is None or self.lists.match_any(sender.lists))
        )
        return YES if holds else NO

    def words(self) -> str:
        return self.text

    def evidence(self, facts: Facts, recipient: Recipient | None) -> str:
        return f"sender <{facts.envelope.sender.address}>"


class RecipientIs(Node):
    """One forward-path and its directory facts; unknown while there is none."""

    __slots__ = ("address", "aspects", "city_wide", "domain", "lists", "outside", "text")
    early = True

    def __init__(self, spec: Any) -> None:
        self.address = Names(map(_folded, spec.address)) if spec.address else None
        self.domain = Names(map(a_labels, spec.domain)) if spec.domain else None
        self.lists = Names(spec.list) if spec.list else None
        self.city_wide, self.outside = spec.city_wide, spec.outside
        self.text = "recipient " + _spec_words(spec)
        aspects = Aspect.NONE
        for used, aspect in (
            (self.address, Aspect.ADDRESS), (self.domain, Aspect.DOMAIN), (self.lists, Aspect.LISTS),
            (self.city_wide, Aspect.LISTS), (self.outside, Aspect.DIRECTION),
        ):  # fmt: skip
            aspects |= aspect if used else Aspect.NONE
        self.aspects = aspects

    def value(self, facts: Facts, recipient: Recipient | None) -> int:
        if recipient is None:
            return UNKNOWN
        holds = (
            (not self.outside or recipient.direction is Direction.OUTBOUND)
            and (not self.city_wide or CITY_WIDE in recipient.lists)
            and (self.lists is None or self.lists.match_any(recipient.lists))
            and (self.domain is None or self.domain.match(domain_of(recipient.address)))
            and (self.address is None or self.address.match(fold(recipient.address)))
        )
        return YES if holds else NO

    def words(self) -> str:
        return self.text

    def evidence(self, facts: Facts, recipient: Recipient | None) -> str:
        return f"recipient <{recipient.address}>" if recipient else ""


def _folded(pattern: str) -> str:
    """A pattern of addresses as they are compared; without an «@» it may be the end of one (``*.city.example``)."""
    return fold(pattern) if "@" in pattern or "." not in pattern else a_labels(pattern)


def _spec_words(spec: Any) -> str:
    parts = []
    for name in sorted(spec.model_fields_set, key=list(type(spec).model_fields).index):
        value = getattr(spec, name)
        shown = (
            "" if value is True else " " + (" or ".join(map(str, value)) if isinstance(value, tuple) else str(value))
        )
        parts.append(name.replace("_", "-") + shown)
    return ", ".join(parts)


class SizeIs(Node):
    """Octets as received; while they still come, or as declared, a lower bound."""

    __slots__ = ("over", "under")
    early = True

    def __init__(self, spec: Any) -> None:
        self.over, self.under = spec.over, spec.under

    def value(self, facts: Facts, recipient: Recipient | None) -> int:
        size, rest = facts.size, NO if facts.complete else UNKNOWN
        over = YES if self.over is None or size > self.over else rest
        under = YES if self.under is None else NO if size >= self.under else YES if facts.complete else UNKNOWN
        return min(over, under)

    def words(self) -> str:
        rows = [f"{word} {n:,} octets" for word, n in (("over", self.over), ("under", self.under)) if n is not None]
        return "size is " + " and ".join(rows)

    def evidence(self, facts: Facts, recipient: Recipient | None) -> str:
        return f"{facts.size:,} octets"


class HeaderIs(Node):
    """One test of one header field; a field that is repeated is tested in each place."""

    __slots__ = ("absent", "contains", "name", "pattern", "text")
    checks = frozenset({Check.HEADER})

    def __init__(self, spec: Any) -> None:
        self.name = spec.name.lower()
        self.pattern = re2.compile(spec.matches) if spec.matches is not None else None
        self.contains = tuple(c.lower() for c in spec.contains)
        self.absent = bool(spec.absent)
        self.text = f"header {spec.name} " + (
            f"matches {spec.matches}" if spec.matches is not None
            else "contains " + " or ".join(spec.contains) if spec.contains
            else "is absent" if self.absent else "is present"
        )  # fmt: skip

    def _holds(self, value: str) -> bool:
        if self.pattern is not None:
            # An undecodable octet arrives as a lone surrogate, which the expression engine cannot take.
            return self.pattern.search(value.encode("utf-8", "replace").decode()) is not None
        if self.contains:
            folded = value.lower()
            return any(c in folded for c in self.contains)
        return True

    def value(self, facts: Facts, recipient: Recipient | None) -> int:
        found = any(f.kind == self.name and self._holds(f.value) for f in facts.of(Check.HEADER))
        seen = facts.seen(Check.HEADER, found)
        return 2 - seen if self.absent else seen

    def words(self) -> str:
        return self.text

    def evidence(self, facts: Facts, recipient: Recipient | None) -> str:
        return f"{self.name} field"


class AttachmentIs(Node):
    """At least ``count`` attachments for which all keys hold, with more than ``total_over`` octets together."""

    __slots__ = ("count", "declared", "family", "name", "over", "text", "total", "type", "under")
    checks = frozenset({Check.ATTACHMENT})

    def __init__(self, spec: Any) -> None:
        self.type = Names(spec.type) if spec.type else None
        self.declared = Names(spec.declared) if spec.declared else None
        self.name = Names(spec.name) if spec.name else None
        self.over = spec.size.over if spec.size else None
        self.under = spec.size.under if spec.size else None
        self.count = spec.count
        self.total: int | None = spec.total_over
        self.family = Names(t for name in spec.class_ for t in CLASSES[name]) if spec.class_ else None
        keys = [(w, n.words) for w, n in (("type", self.type), ("declared", self.declared), ("name", self.name)) if n]
        keys += [("class", " or ".join(spec.class_))] if spec.class_ else []
        limits = (("over", self.over), ("under", self.under), ("together over", self.total))
        bounds = [(w, f"{n:,} octets") for w, n in limits if n is not None]
        self.text = " ".join(["an attachment", *(f"{w} {v}" for w, v in [*keys, *bounds])])
        if self.count > 1:
            self.text += f", at least {self.count}"

    def _holds(self, f: Finding) -> bool:
        # Windows drops dots and spaces at the end of a name: «run.exe.» is run.exe.
        return (
            (self.type is None or self.type.match(f.kind.lower()))
            and (self.family is None or self.family.match(f.kind.lower()))
            and (self.declared is None or self.declared.match(f.declared.lower()))
            and (self.name is None or self.name.match(f.value.lower().rstrip(". \t")))
            and (self.over is None or f.size > self.over)
            and (self.under is None or f.size < self.under)
        )

    def value(self, facts: Facts, recipient: Recipient | None) -> int:
        rows = facts.of(Check.ATTACHMENT)
        if not rows:
            return facts.seen(Check.ATTACHMENT, False)
        held = [f for f in rows if self._holds(f)]
        found = sum(f.count for f in held) >= self.count and (self.total is None or _octets(held) > self.total)
        return facts.seen(Check.ATTACHMENT, found)

    def words(self) -> str:
        return self.text

    def evidence(self, facts: Facts, recipient: Recipient | None) -> str:
        return _list(f for f in facts.of(Check.ATTACHMENT) if self._holds(f))


def _octets(rows: Iterable[Finding]) -> int:
    """Octets of attachments together; one with two names counts once."""
    sizes = {(f.part, f.offset, n if f.offset < 0 else 0): f.size for n, f in enumerate(rows)}
    return sum(sizes.values())


class LinkIs(Node):
    """A link of one of these kinds, or any that was found, to one of these hosts."""

    __slots__ = ("hosts", "kinds", "text", "without")
    checks = frozenset({Check.LINK})

    def __init__(self, spec: Any) -> None:
        self.kinds = Names(spec.kind) if spec.kind else None
        self.hosts = Names(spec.host) if spec.host else None
        self.without = Names(spec.except_) if spec.except_ else None
        self.text = "a link" + (f" of kind {' or '.join(spec.kind)}" if spec.kind else "")
        self.text += f" to {self.hosts.words}" if self.hosts else ""
        self.text += f" but not to {self.without.words}" if self.without else ""

    def _holds(self, f: Finding) -> bool:
        return (
            (self.kinds is None or self.kinds.match(f.kind))
            and (self.hosts is None or self.hosts.match(f.value))
            and (self.without is None or not self.without.match(f.value))
        )

    def value(self, facts: Facts, recipient: Recipient | None) -> int:
        rows = facts.of(Check.LINK)
        return facts.seen(Check.LINK, bool(rows) and any(map(self._holds, rows)))

    def words(self) -> str:
        return self.text

    def evidence(self, facts: Facts, recipient: Recipient | None) -> str:
        return _list(f for f in facts.of(Check.LINK) if self._holds(f))


class EncryptedIs(Node):
    """Something is encrypted in one of these formats, and the keys that it names are none of these."""

    __slots__ = ("formats", "keys", "text")
    checks = frozenset({Check.ENCRYPTION})

    def __init__(self, spec: Any) -> None:
        self.formats = frozenset(spec.format)
        self.keys = tuple(map(key_form, spec.key_ids_without))
        self.text = "something is encrypted" + (f" ({' or '.join(spec.format)})" if spec.format else "")
        self.text += f", but not for {' or '.join(spec.key_ids_without)}" if self.keys else ""

    def _holds(self, f: Finding) -> bool:
        if self.formats and f.kind not in self.formats:
            return False
        named = [key_form(key) for key in f.value.split("\n") if key]
        return not any(same_key(key, other) for key in self.keys for other in named)

    def value(self, facts: Facts, recipient: Recipient | None) -> int:
        rows = facts.of(Check.ENCRYPTION)
        return facts.seen(Check.ENCRYPTION, bool(rows) and any(map(self._holds, rows)))

    def words(self) -> str:
        return self.text

    def evidence(self, facts: Facts, recipient: Recipient | None) -> str:
        return _list(f for f in facts.of(Check.ENCRYPTION) if self._holds(f))


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


class ContentIs(Node):
    """Matches of the named information types, counted together, of at least this confidence."""

    __slots__ = ("confidence", "count", "distinct", "near", "parts", "published", "quoted", "types", "without")
    checks = frozenset({Check.CONTENT})

    def __init__(self, spec: Any) -> None:
        self.types: frozenset[str] = frozenset(spec.types)
        self.confidence: Confidence = spec.confidence
        self.count: int = spec.count
        self.distinct: bool = spec.distinct
        self.parts: frozenset[str] = frozenset(spec.part)
        near, exclude = spec.near, spec.exclude
        self.near = Near(self.types, near.type, near.within, near.confidence) if near else None
        self.quoted = bool(exclude and exclude.quoted)
        self.published: str = (exclude.published if exclude else "") or ""
        marks = [*([QUOTED] if self.quoted else ()), *([published_mark(self.published)] if self.published else ())]
        self.without = frozenset(marks)

    def _holds(self, f: Finding) -> bool:
        return (
            f.kind in self.types
            and f.confidence >= self.confidence
            and (not self.parts or not self.parts.isdisjoint(f.marks))
            and (self.near is None or self.near.mark in f.marks)
            and (not self.without or self.without.isdisjoint(f.marks))
        )

    def value(self, facts: Facts, recipient: Recipient | None) -> int:
        rows = facts.of(Check.CONTENT)
        found = bool(rows) and self._count(rows) >= self.count
        return facts.seen(Check.CONTENT, found)

    def _count(self, rows: Iterable[Finding]) -> int:
        return sum(f.count if self.distinct else f.sightings for f in rows if self._holds(f))

    def words(self) -> str:
        times = f", at least {self.count} times" if self.count > 1 else ""
        where = f" in {' or '.join(sorted(self.parts))}" if self.parts else ""
        near = f" within {self.near.within} octets of {self.near.other}" if self.near else ""
        left = [*(["what is quoted"] if self.quoted else ()), *([self.published] if self.published else ())]
        out = f", without {' and '.join(left)}" if left else ""
        types = " or ".join(sorted(self.types))
        return f"content has {types} ({self.confidence.name.lower()} or surer{times}){where}{near}{out}"

    def evidence(self, facts: Facts, recipient: Recipient | None) -> str:
        return _list(f for f in facts.of(Check.CONTENT) if self._holds(f))


class KindIs(Node):
    """A finding of one check whose kind fits: virus signatures, structure defects, legends that are present."""

    __slots__ = ("check", "checks", "names", "text")

    def __init__(self, check: Check, names: Iterable[str], text: str) -> None:
        self.check, self.names, self.text = check, Names(names), text
        self.checks = frozenset({check})

    def _holds(self, f: Finding) -> bool:
        return self.names.match(f.kind.lower()) and f.value != "absent"

    def value(self, facts: Facts, recipient: Recipient | None) -> int:
        rows = facts.of(self.check)
        return facts.seen(self.check, bool(rows) and any(map(self._holds, rows)))

    def words(self) -> str:
        return self.text

    def evidence(self, facts: Facts, recipient: Recipient | None) -> str:
        return _list(f for f in facts.of(self.check) if self._holds(f))


class SignatureBlockMissing(Node):
    """No signature block has one of the wordings. One that has is certain; that there is none, only in the end."""

    __slots__ = ("wordings",)
    checks = frozenset({Check.SIGNATURE_BLOCK})

    def __init__(self, wordings: Iterable[str]) -> None:
        self.wordings = frozenset(collapse(w) for w in wordings)

    def value(self, facts: Facts, recipient: Recipient | None) -> int:
        identified = any(
            f.kind == "identified" and (not f.value or collapse(f.value) in self.wordings)
            for f in facts.of(Check.SIGNATURE_BLOCK)
        )
        return 2 - facts.seen(Check.SIGNATURE_BLOCK, identified)

    def words(self) -> str:
        return "the signature block has none of: " + ", ".join(f"«{w}»" for w in sorted(self.wordings))

    def evidence(self, facts: Facts, recipient: Recipient | None) -> str:
        present = any(f.kind == "present" for f in facts.of(Check.SIGNATURE_BLOCK))
        return "a signature block without the wording" if present else "no signature block"


class ControlFailed(Node):
    """One of these controls tried and could not answer."""

    __slots__ = ("checks", "controls")

    def __init__(self, controls: Iterable[Check]) -> None:
        self.controls = frozenset(controls)
        self.checks = self.controls

    def value(self, facts: Facts, recipient: Recipient | None) -> int:
        if not self.controls.isdisjoint(facts.failed):
            return YES
        return NO if self.controls <= facts.known else UNKNOWN

    def words(self) -> str:
        return "control failed: " + " or ".join(sorted(self.controls))

    def evidence(self, facts: Facts, recipient: Recipient | None) -> str:
        return ", ".join(sorted(self.controls & facts.failed)) + " failed"


class AutomaticReply(Node):
    """Null reverse-path, or ``Auto-Submitted: auto-replied`` (RFC 3834 section 5)."""

    __slots__ = ()
    checks = frozenset({Check.HEADER})

    def value(self, facts: Facts, recipient: Recipient | None) -> int:
        if not facts.sender:
            return YES
        found = any(
            f.kind == AUTO_SUBMITTED and f.value.strip().lower().startswith("auto-replied")
            for f in facts.of(Check.HEADER)
        )
        return facts.seen(Check.HEADER, found)

    def words(self) -> str:
        return "an automatic reply (null sender, or Auto-Submitted: auto-replied)"

    def evidence(self, facts: Facts, recipient: Recipient | None) -> str:
        return "null sender" if not facts.sender else "auto-submitted field"


class ExceptionFor(Node):
    """An approved exception record of this kind is in force for sender and recipient."""

    __slots__ = ("kind",)
    aspects, early = Aspect.ADDRESS, True

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def value(self, facts: Facts, recipient: Recipient | None) -> int:
        best = NO
        for record in facts.exceptions:
            best = max(best, self._covers(record, facts, recipient))
        return best

    def _covers(self, record: ExceptionRecord, facts: Facts, recipient: Recipient | None) -> int:
        if (
            record.kind != self.kind
            or record.uses_left == 0
            or not record.created <= facts.now < record.expires
            or not _party(record.sender, facts.sender)
        ):
            return NO
        if record.max_size is not None and facts.size > record.max_size:
            return NO
        size = YES if record.max_size is None or facts.complete else UNKNOWN
        if recipient is None:
            return size if record.recipient == "*" else UNKNOWN
        return size if _party(record.recipient, fold(recipient.address)) else NO

    def records(self, facts: Facts, recipient: Recipient | None) -> tuple[str, ...]:
        """Ids of the records in force."""
        return tuple(r.id for r in facts.exceptions if self._covers(r, facts, recipient) == YES)

    def words(self) -> str:
        return f"exception {self.kind}"

    def evidence(self, facts: Facts, recipient: Recipient | None) -> str:
        return "record " + ", ".join(self.records(facts, recipient))


def _party(pattern: str, folded: str) -> bool:
    wanted = fold(pattern)
    return wanted in ("*", folded) or (wanted.startswith("@") and domain_of(folded) == wanted[1:])


def collapse(text: str) -> str:
    """Folded, white space collapsed: the form in which wordings are compared."""
    return " ".join(text.lower().split())
