"""All rules together: what they ask of the checks, at which sizes an early answer can come, and their digest."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from gateway.model.envelope import Direction
from gateway.model.finding import Check, LegendText, Published, Questions
from gateway.model.verdict import Disposition, Mode
from gateway.policy.compiled import Rule, legend_of
from gateway.policy.envelope_conditions import SizeIs
from gateway.policy.finding_conditions import AUTO_SUBMITTED, AutomaticReply, ContentIs, HeaderIs, KindIs
from gateway.policy.logic import NO, Node, Several, walk
from gateway.policy.when_schema import Condition

FROM_ATTACHMENTS = (
    *("type-mismatch", "double-extension", "deceptive-name"),
    *("archive-limit", "archive-encrypted", "content-encrypted", "smime-encrypted", "pgp-encrypted", "unreadable"),
    *("content-unreadable", "office-macros", "pdf-javascript", "pdf-launch", "embedded-object", "remote-template"),
    *("hidden-member", "office-autoexec", "office-xlm", "office-dde", "disk-image", "shortcut", "script-file"),
    *("active-document", "html-script", "html-smuggling", "html-login-form"),
)
"""Structure codes that the attachment check finds."""
WRAPPERS = "link-wrappers.txt"
"""In the folder of rules: hosts that wrap links of others, one a line."""

_KEPT = 1000
"""Combinations of rules whose questions are remembered."""


class Ways(NamedTuple):
    """Rules that may match for a recipient in one of some directions, in their order."""

    going: tuple[Rule, ...]
    open: frozenset[str]
    """Ids of those that the envelope cannot rule out."""
    others: tuple[Rule, ...]


@dataclass(frozen=True)
class RuleSet:
    """The loaded rules. Immutable; what is derived from them is computed once."""

    rules: tuple[Rule, ...]
    """All rules in the order of their files, those with mode off included."""
    digest: str = ""
    """SHA-256 (hex) over the files' names and octets: the version in logs and records."""
    published: tuple[Published, ...] = ()
    """Values that the city itself publishes, by the files that rules exclude."""
    domains: tuple[str, ...] = ()
    """The city's own domains, ``*.`` in front of those that stand for their sub-domains alone."""
    wrappers: tuple[str, ...] = ()
    """Hosts that wrap links of others: the file :data:`WRAPPERS`."""

    @cached_property
    def active(self) -> tuple[Rule, ...]:
        """Rules that are evaluated: enforce and monitor."""
        return tuple(rule for rule in self.rules if rule.mode is not Mode.OFF)

    @cached_property
    def _ways(self) -> dict[frozenset[Direction], "Ways"]:
        return {}

    def ways(self, directions: frozenset[Direction]) -> "Ways":
        """The rules for recipients to whom a message goes one of these ways."""
        known = self._ways.get(directions)
        if known is None:
            going = tuple(rule for rule in self.active if not all(rule.when.never(one) for one in directions))
            sure = len(directions) == 1
            known = self._ways[directions] = Ways(
                going,
                frozenset(rule.id for rule in going if sure and rule.open),
                tuple(rule for rule in going if not (sure and rule.open)),
            )
        return known

    @cached_property
    def early(self) -> tuple[Rule, ...]:
        """Enforced reject and defer rules that the envelope and a size can decide."""
        return tuple(rule for rule in self.active if rule.early and rule.mode is Mode.ENFORCE)

    @cached_property
    def questions(self) -> Questions:
        """What the checks have to find out for the active rules, and no more."""
        nodes = [node for rule in self.active for node in _nodes(rule)]
        checks = {check for rule in self.active for check in rule.checks}
        headers = {node.name for node in nodes if isinstance(node, HeaderIs)}
        holds = any(Disposition.HOLD in (r.disposition, r.on_failure, r.on_limit) for r in self.active)
        if holds or any(isinstance(node, AutomaticReply) for node in nodes):
            headers.add(AUTO_SUBMITTED)
            checks.add(Check.HEADER)
        structure = [n for n in nodes if isinstance(n, KindIs) and n.check is Check.STRUCTURE]
        if any(n.names.match(code) for n in structure for code in FROM_ATTACHMENTS):
            checks.add(Check.ATTACHMENT)
        wordings = [w for rule in self.active for spec in _specs(rule) for w in _wordings(spec)]
        contents = [node for node in nodes if isinstance(node, ContentIs)]
        near = tuple(dict.fromkeys(node.near for node in contents if node.near))
        excluded = {node.published for node in contents}
        return Questions(
            checks=frozenset(checks),
            headers=frozenset(headers),
            types=frozenset(t for node in contents for t in node.types) | {question.other for question in near},
            legends=self._legends(nodes),
            signature_wordings=tuple(dict.fromkeys(wordings)),
            quoted=any(node.quoted for node in contents),
            near=near,
            published=tuple(p for p in self.published if p.name in excluded),
            domains=self.domains if Check.LINK in checks or Check.ATTACHMENT in checks else (),
            wrappers=self.wrappers if Check.LINK in checks else (),
        )

    @cached_property
    def _narrowed(self) -> dict[frozenset[str], Questions]:
        return {}

    def questions_of(self, ids: frozenset[str]) -> Questions:
        """What the rules of these ids ask. Of content everything is asked still: nothing need be compiled anew."""
        known = self._narrowed.get(ids)
        if known is None:
            if len(self._narrowed) >= _KEPT:
                self._narrowed.clear()
            others = tuple(rule if rule.id in ids else replace(rule, mode=Mode.OFF) for rule in self.rules)
            known, whole = replace(self, rules=others).questions, self.questions
            if Check.CONTENT in known.checks:
                known = replace(
                    known, types=whole.types, quoted=whole.quoted, near=whole.near, published=whole.published
                )
            self._narrowed[ids] = known
        return known

    def _legends(self, nodes: Sequence[Node]) -> tuple[LegendText, ...]:
        asked = {name for n in nodes if isinstance(n, KindIs) and n.check is Check.LEGEND for name in n.names.exact}
        texts = {legend.id: legend for rule in self.rules if (legend := legend_of(rule))}
        return tuple(texts[name] for name in sorted(asked) if name in texts)

    @cached_property
    def size_thresholds(self) -> tuple[int, ...]:
        """Octets, ascending, beyond which :func:`~gateway.policy.engine.decide_early` may refuse while receiving."""
        sizes = {n.over for rule in self.early for n in walk(rule.when) if isinstance(n, SizeIs) and n.over is not None}
        return tuple(sorted(sizes))

    @cached_property
    def early_above(self) -> int:
        """Octets that a message must exceed for any early answer; -1: the envelope alone may do."""
        return min((_exceeds(rule.when) for rule in self.early), default=-1)

    @cached_property
    def refuses_senders(self) -> bool:
        """Whether a rule may be certain at MAIL although no size is declared."""
        return any(_exceeds(rule.when) < 0 and _is_said_at_mail(rule.when) for rule in self.early)

    @cached_property
    def reads_messages(self) -> bool:
        """Whether any rule needs more than the envelope: all others refuse at MAIL or RCPT, or never."""
        envelope = {rule.id for rule in self.early if not any(isinstance(node, SizeIs) for node in _nodes(rule))}
        return any(rule.id not in envelope for rule in self.active)

    def get(self, rule: str) -> Rule | None:
        """The rule of this id."""
        return next((r for r in self.rules if r.id == rule), None)

    def alone(self, rule: str) -> "RuleSet":
        """This one rule as if enforced: how its cases are run. Raises KeyError for an unknown id."""
        found = self.get(rule)
        if found is None:
            raise KeyError(rule)
        others = tuple(replace(r, mode=Mode.OFF) for r in self.rules if r.id != rule)
        return replace(self, rules=(replace(found, mode=Mode.ENFORCE), *others))


def _exceeds(node: Node) -> int:
    """Octets that a message must exceed before this condition can be certain; -1: any may do."""
    if isinstance(node, SizeIs) and node.over is not None:
        return int(node.over)
    if isinstance(node, Several):
        of_each = map(_exceeds, node.children)
        return max(of_each) if node.settles == NO else min(of_each)
    return -1


def _is_said_at_mail(node: Node) -> bool:
    """Whether a condition may hold for certain before there is a recipient."""
    if isinstance(node, Several):
        answers = map(_is_said_at_mail, node.children)
        return all(answers) if node.settles == NO else any(answers)
    return node.early and not node.aspects


def _nodes(rule: Rule) -> Iterable[Node]:
    yield from walk(rule.when)
    if rule.unless:
        yield from walk(rule.unless)


def _specs(rule: Rule) -> Iterable[Condition]:
    for spec in (rule.spec.when, rule.spec.unless):
        if spec:
            yield from _conditions(spec)


def _conditions(spec: Condition) -> Iterable[Condition]:
    yield spec
    for inner in (*spec.all_, *spec.any_, *((spec.not_,) if spec.not_ else ())):
        yield from _conditions(inner)


def _wordings(spec: Condition) -> tuple[str, ...]:
    return spec.signature_block.missing if spec.signature_block else ()
