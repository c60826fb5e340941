"""Three-valued logic over one message: what a condition is, and ``all``, ``any`` and ``not`` of them.

Kleene's logic: a condition whose check has not answered is unknown, and stays so unless another operand settles it.
Refuses to guess: what has not been looked at is never «nothing found». No I/O, no clock.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, IntFlag

from gateway.model.envelope import Direction, Envelope, ExceptionRecord, Recipient, domain_of, fold
from gateway.model.finding import Check, Finding, Findings

NO, UNKNOWN, YES = 0, 1, 2
UNREAD = frozenset({"text-truncated", "candidates-capped", "content-unreadable"})
"""Structure findings which say that the content check reached a limit: what it did not find is not known."""

_UNANSWERED = (frozenset({Check.CONTENT}), frozenset({Check.CONTENT, Check.ENCRYPTION}))
"""Checks without a full answer then; the second when attachments could not be read to the end."""


class Truth(IntEnum):
    """Kleene's three values; ``all`` is min, ``any`` is max, ``not`` is 2 - x."""

    NO = NO
    UNKNOWN = UNKNOWN
    YES = YES


class Aspect(IntFlag):
    """What of a recipient a condition looks at; recipients alike in these share one evaluation."""

    NONE = 0
    DIRECTION = 1
    LISTS = 2
    DOMAIN = 4
    ADDRESS = 8


@dataclass(frozen=True, slots=True)
class Trace:
    """One condition's answer in words; ``evidence`` is redacted."""

    words: str
    truth: Truth
    evidence: str = ""
    children: tuple["Trace", ...] = ()


class Facts:
    """One message as the conditions see it: looked up once, shared by all rules."""

    __slots__ = ("by_check", "complete", "domain", "envelope", "exceptions", "failed", "known",
                 "limited", "now", "sender", "size")  # fmt: skip

    def __init__(
        self, envelope: Envelope, findings: Findings, now: datetime, exceptions: Sequence[ExceptionRecord]
    ) -> None:
        self.envelope = envelope
        self.sender = fold(envelope.sender.address)
        self.domain = domain_of(self.sender)
        self.complete = findings.complete
        # RFC 1870 section 6: the declared size is the client's word, good for refusing early, not for accepting.
        self.size = findings.size if findings.complete else max(findings.size, envelope.declared_size or 0)
        self.failed = frozenset(failure.check for failure in findings.failures)
        self.limited = self.failed - {failure.check for failure in findings.failures if failure.reason != "limit"}
        self.known = findings.known - self.failed if findings.complete else frozenset()
        self.by_check: dict[Check, list[Finding]] = {}
        for finding in findings.items:
            self.by_check.setdefault(finding.check, []).append(finding)
            if finding.kind in UNREAD and finding.check is Check.STRUCTURE:
                self.known -= _UNANSWERED[finding.kind == "content-unreadable"]
        self.now = now
        self.exceptions = exceptions

    @property
    def silent(self) -> frozenset[Check]:
        """Checks that have answered and found nothing."""
        return self.known.difference(self.by_check)

    def of(self, check: Check) -> Sequence[Finding]:
        """The findings of one check."""
        return self.by_check.get(check, ())

    def seen(self, check: Check, found: bool) -> int:
        """«At least» questions: what is found is certain even if the check broke off; what is not, only if it ended."""
        return YES if found else NO if check in self.known else UNKNOWN


class Node(ABC):
    """A compiled condition."""

    __slots__ = ()
    aspects: Aspect = Aspect.NONE
    checks: frozenset[Check] = frozenset()
    early: bool = False
    """True when the envelope and a size can make it certain."""

    @abstractmethod
    def value(self, facts: Facts, recipient: Recipient | None) -> int:
        """NO, UNKNOWN or YES; with no recipient, what holds for every possible one."""

    @abstractmethod
    def words(self) -> str:
        """The condition in words."""

    def never(self, direction: Direction) -> bool:
        """True: it holds for nobody to whom a message goes that way, whatever the message."""
        return False

    def needs(self) -> frozenset[Check]:
        """Checks each of which must have found something before it can hold."""
        return frozenset()

    def evidence(self, facts: Facts, recipient: Recipient | None) -> str:
        """Redacted grounds for a YES."""
        return ""

    def trace(self, facts: Facts, recipient: Recipient | None) -> Trace:
        """The answer with its grounds; slower than :meth:`value`."""
        truth = Truth(self.value(facts, recipient))
        if truth is Truth.YES:
            grounds = self.evidence(facts, recipient)
        elif truth is Truth.UNKNOWN:
            grounds = ", ".join(sorted(_undecided(check, facts) for check in self.checks))
        else:
            grounds = ""
        return Trace(self.words(), truth, grounds)

    def blame(self, facts: Facts, recipient: Recipient | None) -> frozenset[Check]:
        """The checks whose missing answer leaves this unknown."""
        return self.checks - facts.known if self.value(facts, recipient) == UNKNOWN else frozenset()


def _undecided(check: Check, facts: Facts) -> str:
    return f"{check} failed" if check in facts.failed else f"{check} not known yet"


class Several(Node):
    """``all`` or ``any`` of its children; stops at the first that settles it."""

    __slots__ = ("aspects", "checks", "children", "early", "settles")

    def __init__(self, children: Sequence[Node], settles: int) -> None:
        # What needs no check comes first: it is the cheapest way to an answer, and the one that no failure blocks.
        self.children = tuple(sorted(children, key=lambda c: (bool(c.checks), bool(c.aspects))))
        self.settles = settles
        self.checks = frozenset().union(*(c.checks for c in children))
        aspects = Aspect.NONE
        for child in children:
            aspects |= child.aspects
        self.aspects = aspects
        self.early = all(c.early for c in children) if settles == NO else any(c.early for c in children)

    def value(self, facts: Facts, recipient: Recipient | None) -> int:
        """Kleene's."""
        settles = self.settles
        answer = 2 - settles
        for child in self.children:
            value = child.value(facts, recipient)
            if value == settles:
                return settles
            if value == UNKNOWN:
                answer = UNKNOWN
        return answer

    def words(self) -> str:
        """The operator."""
        return "all of" if self.settles == NO else "any of"

    def never(self, direction: Direction) -> bool:
        """Of ``all`` one is enough, of ``any`` it takes each."""
        answers = [child.never(direction) for child in self.children]
        return any(answers) if self.settles == NO else all(answers)

    def needs(self) -> frozenset[Check]:
        """Of ``all`` what one of them needs, of ``any`` what each does."""
        first, *others = (child.needs() for child in self.children)
        return first.union(*others) if self.settles == NO else first.intersection(*others)

    def trace(self, facts: Facts, recipient: Recipient | None) -> Trace:
        """With the answers of what stands below."""
        rows = tuple(child.trace(facts, recipient) for child in self.children)
        return Trace(self.words(), Truth(self.value(facts, recipient)), "", rows)

    def blame(self, facts: Facts, recipient: Recipient | None) -> frozenset[Check]:
        """What stands below and is unknown."""
        if self.value(facts, recipient) != UNKNOWN:
            return frozenset()
        return frozenset().union(*(child.blame(facts, recipient) for child in self.children))


class Not(Node):
    """The opposite; unknown stays unknown."""

    __slots__ = ("aspects", "checks", "child", "early")

    def __init__(self, child: Node) -> None:
        self.child = child
        self.aspects, self.checks, self.early = child.aspects, child.checks, child.early

    def value(self, facts: Facts, recipient: Recipient | None) -> int:
        """Kleene's."""
        return 2 - self.child.value(facts, recipient)

    def words(self) -> str:
        """The operator."""
        return "not"

    def trace(self, facts: Facts, recipient: Recipient | None) -> Trace:
        """With the answers of what stands below."""
        below = self.child.trace(facts, recipient)
        return Trace("not", Truth(2 - below.truth), "", (below,))

    def blame(self, facts: Facts, recipient: Recipient | None) -> frozenset[Check]:
        """What stands below and is unknown."""
        return self.child.blame(facts, recipient)


def every(children: Sequence[Node]) -> Node:
    """All hold."""
    return children[0] if len(children) == 1 else Several(children, NO)


def some(children: Sequence[Node]) -> Node:
    """Any holds."""
    return children[0] if len(children) == 1 else Several(children, YES)


def walk(node: Node) -> Iterable[Node]:
    """The node and all below."""
    yield node
    if isinstance(node, Several):
        for child in node.children:
            yield from walk(child)
    elif isinstance(node, Not):
        yield from walk(node.child)


def grounds(trace: Trace) -> str:
    """The evidence of all conditions that made the answer, in one line."""
    if not trace.children:
        return trace.evidence or trace.words
    if trace.words == "not":
        return ""
    rows = [grounds(child) for child in trace.children if child.truth is trace.truth]
    return "; ".join(dict.fromkeys(row for row in rows if row))
