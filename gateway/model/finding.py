"""A finding: one fact that a check reports about a message. Facts only; what they mean is the policy's business."""

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum


class Check(StrEnum):
    """The controls. A rule that needs one that failed is decided by its ``on_failure``."""

    STRUCTURE = "structure"
    """Size as received, MIME defects and limits."""
    HEADER = "header"
    ATTACHMENT = "attachment"
    CONTENT = "content"
    LEGEND = "legend"
    SIGNATURE_BLOCK = "signature-block"
    VIRUS = "virus"
    LINK = "link"
    """Links whose words and target disagree, and hosts made to deceive."""
    ENCRYPTION = "encryption"
    """What is encrypted end to end, and for which keys."""


QUOTED = "quoted"
"""Mark of a content finding all of which stands in quoted text."""


class Confidence(IntEnum):
    """How sure a content finding is. Ordered."""

    LOW = 1
    MEDIUM = 2
    HIGH = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact. ``value`` is what rules match on and is never logged; ``evidence`` is redacted and may be shown."""

    check: Check
    kind: str
    """What it is, by check. structure: defect code (``too-deep``, ``bare-cr``, …). header: field name, lower case.
    attachment: real media type. content: information type id. legend: legend id. signature-block: ``present``,
    ``identified`` or ``missing``. virus: signature name. link: ``text-mismatch``, ``look-alike``, …
    (docs/rules.md). encryption: the format (``openpgp``, ``smime``, ``age``, ``zip``, …)."""
    value: str = ""
    """header: decoded field value. attachment: decoded file name. link: the host that it goes to. encryption: ids of
    the recipients' keys, set apart by LF. Else ``""``."""
    part: str = ""
    """Path of the part (``1.2``), ``""`` for the message as a whole."""
    offset: int = -1
    """Octet offset in the spooled message (or in the decoded part for content), -1 when it has none."""
    confidence: Confidence = Confidence.HIGH
    evidence: str = ""
    """Redacted and printable: ``***-**-6789``."""
    count: int = 1
    """How many times; distinct matches are findings of their own up to a cap, the last one carries the rest."""
    declared: str = ""
    """attachment: the declared media type."""
    size: int = 0
    """attachment: decoded octets (estimated from the encoding)."""
    marks: tuple[str, ...] = ()
    """content: where it stands (``body``, ``attachment``, ``subject``, ``file-name``), ``quoted`` when all of it stands
    in quoted text, and the marks of the :class:`Near` and :class:`Published` questions that hold."""
    sightings: int = 1
    """content: how often it was seen, the same value each time again."""


@dataclass(frozen=True, slots=True)
class ControlFailure:
    """A check that could not give an answer. Never the same as «nothing found»."""

    check: Check
    reason: str
    """Stable code for metrics: ``timeout``, ``unavailable``, ``limit``, ``protocol``, ``crashed``."""
    detail: str
    """For the log, not for the outside."""


@dataclass(frozen=True, slots=True)
class LegendText:
    """A legend that rules ask about: id and its lines as they must stand."""

    id: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Near:
    """A question: which matches of ``types`` have a match of ``other``, at least so sure, within so many octets."""

    types: frozenset[str]
    other: str
    within: int
    confidence: Confidence

    @property
    def mark(self) -> str:
        """What a finding carries for which it holds."""
        return f"near {self.other} {self.within} {self.confidence.name.lower()}"


def published_mark(name: str) -> str:
    """What a finding carries whose value stands in the file of published values of this name."""
    return f"published {name}"


@dataclass(frozen=True, slots=True)
class Published:
    """A question: which matches are values that the city itself publishes."""

    name: str
    """The file that lists them."""
    values: frozenset[str]
    """Small letters and digits alone."""

    @property
    def mark(self) -> str:
        """What a finding carries for which it holds."""
        return published_mark(self.name)


@dataclass(frozen=True, slots=True)
class Questions:
    """What the loaded rules need to know, so that checks do that and no more. Picklable."""

    checks: frozenset[Check] = frozenset()
    headers: frozenset[str] = frozenset()
    """Field names, lower case."""
    types: frozenset[str] = frozenset()
    """Information type ids."""
    legends: tuple[LegendText, ...] = ()
    signature_wordings: tuple[str, ...] = ()
    """Phrases of which one must stand in the signature block (compared folded, white space collapsed)."""
    quoted: bool = False
    """Whether a match stands in quoted text."""
    near: tuple[Near, ...] = ()
    published: tuple[Published, ...] = ()
    domains: tuple[str, ...] = ()
    """The city's own domains: links to what looks like one of them are found."""
    wrappers: tuple[str, ...] = ()
    """Hosts that wrap links of others (with all below them)."""


@dataclass(frozen=True, slots=True)
class Findings:
    """All that the checks reported about one message."""

    size: int
    """Octets as received, after dot-unstuffing, before our trace fields. With ``complete`` False: at least so many."""
    items: tuple[Finding, ...] = ()
    failures: tuple[ControlFailure, ...] = ()
    known: frozenset[Check] = field(default_factory=lambda: frozenset(Check))
    """Checks that have answered. One that is neither here nor in ``failures`` has not run (yet): rules that need it
    are undecided."""
    complete: bool = True
    """False while octets are still to come (at MAIL, RCPT, or in the middle of DATA)."""

    def of(self, check: Check) -> tuple[Finding, ...]:
        """The findings of one check."""
        return tuple(f for f in self.items if f.check is check)

    def failed(self, check: Check) -> bool:
        """True when the check tried and could not answer."""
        return any(f.check is check for f in self.failures)
