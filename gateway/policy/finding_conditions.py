"""The conditions on what the checks found: header fields, attachments, links, keys, content, legends, failures.

Each answers yes, no or unknown about one message. Refuses to guess, as :mod:`gateway.policy.logic` does: what is found
is certain, what is not found is certain only when the check has answered. Those on the envelope are
:mod:`gateway.policy.envelope_conditions`.
"""

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any

import re2

from gateway.model.envelope import Recipient
from gateway.model.finding import QUOTED, Check, Confidence, Finding, Near, published_mark
from gateway.policy.key_ids import key_form, same_key
from gateway.policy.logic import NO, UNKNOWN, YES, Facts, Node
from gateway.policy.patterns import Names

AUTO_SUBMITTED = "auto-submitted"
_CONTENT = Check.CONTENT
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

    def needs(self) -> frozenset[Check]:
        return frozenset() if self.absent else self.checks

    def words(self) -> str:
        return self.text

    def evidence(self, facts: Facts, recipient: Recipient | None) -> str:
        return f"{self.name} field"


class _Found(Node):
    """One finding at least of one check for which all keys hold."""

    __slots__ = ("text",)
    check: Check
    text: str

    @abstractmethod
    def _holds(self, f: Finding) -> bool:
        """Whether one finding is meant."""

    def value(self, facts: Facts, recipient: Recipient | None) -> int:
        rows = facts.by_check.get(self.check)
        if rows is None:  # of most messages, for most rules
            return NO if self.check in facts.known else UNKNOWN
        return facts.seen(self.check, any(map(self._holds, rows)))

    def needs(self) -> frozenset[Check]:
        return self.checks

    def words(self) -> str:
        return self.text

    def evidence(self, facts: Facts, recipient: Recipient | None) -> str:
        return _list(f for f in facts.of(self.check) if self._holds(f))


class AttachmentIs(_Found):
    """At least ``count`` attachments for which all keys hold, with more than ``total_over`` octets together."""

    __slots__ = ("count", "declared", "family", "name", "over", "total", "type", "under")
    check = Check.ATTACHMENT
    checks = frozenset({check})

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
        rows = facts.by_check.get(self.check)
        if rows is None:
            return NO if self.check in facts.known else UNKNOWN
        held = [f for f in rows if self._holds(f)]
        found = sum(f.count for f in held) >= self.count and (self.total is None or _octets(held) > self.total)
        return facts.seen(Check.ATTACHMENT, found)


def _octets(rows: Iterable[Finding]) -> int:
    """Octets of attachments together; one with two names counts once."""
    sizes = {(f.part, f.offset, n if f.offset < 0 else 0): f.size for n, f in enumerate(rows)}
    return sum(sizes.values())


class LinkIs(_Found):
    """A link of one of these kinds, or any that was found, to one of these hosts."""

    __slots__ = ("hosts", "kinds", "without")
    check = Check.LINK
    checks = frozenset({check})

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


class EncryptedIs(_Found):
    """Something is encrypted in one of these formats, and the keys that it names are none of these."""

    __slots__ = ("formats", "keys")
    check = Check.ENCRYPTION
    checks = frozenset({check})

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
        rows = facts.by_check.get(_CONTENT)
        if rows is None:
            return NO if _CONTENT in facts.known else UNKNOWN
        return facts.seen(_CONTENT, self._count(rows) >= self.count)

    def needs(self) -> frozenset[Check]:
        return self.checks

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


class KindIs(_Found):
    """A finding of one check whose kind fits: virus signatures, structure defects, legends that are present."""

    __slots__ = ("check", "checks", "names")

    def __init__(self, check: Check, names: Iterable[str], text: str) -> None:
        self.check, self.names, self.text = check, Names(names), text
        self.checks = frozenset({check})

    def _holds(self, f: Finding) -> bool:
        return self.names.match(f.kind.lower()) and f.value != "absent"


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


def _list(findings: Iterable[Finding], shown: int = 3) -> str:
    rows = list(findings)
    texts = [" ".join(filter(None, (f.kind, f"in part {f.part}" if f.part else "", f.evidence))) for f in rows[:shown]]
    return "; ".join([*texts, *([f"and {len(rows) - shown} more"] if len(rows) > shown else [])])


def collapse(text: str) -> str:
    """Folded, white space collapsed: the form in which wordings are compared."""
    return " ".join(text.lower().split())
