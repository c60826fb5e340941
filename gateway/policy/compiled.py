"""A rule, compiled once: conditions as objects, actions as the very values that a verdict carries.

Refuses placeholders that nobody has given a value. Everything here is immutable and shared by all messages.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from gateway.model.envelope import Recipient
from gateway.model.finding import Check, LegendText
from gateway.model.reply import Reply
from gateway.model.verdict import Disposition, HoldOrder, Mode, Notice, Transform, TransformKind
from gateway.policy.envelope_conditions import DirectionIs, ExceptionFor, RecipientIs, SenderIs, SizeIs
from gateway.policy.finding_conditions import (
    AttachmentIs,
    AutomaticReply,
    ContentIs,
    ControlFailed,
    EncryptedIs,
    HeaderIs,
    KindIs,
    LinkIs,
    SignatureBlockMissing,
)
from gateway.policy.logic import NO, YES, Aspect, Facts, Node, Not, Several, every, some, walk
from gateway.policy.schema import RuleFile
from gateway.policy.shapes import REPLY_LINE, Strict
from gateway.policy.then_schema import Defer, Hold, Reject
from gateway.policy.when_schema import Condition
from gateway.source import Document

CONTROL_QUEUE = "control-failure"
"""Queue of what a failed control holds when the rule itself names no queue."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, ready to be asked."""

    id: str
    title: str
    source: tuple[str, ...]
    mode: Mode
    when: Node
    unless: Node | None
    disposition: Disposition
    reply: Reply | None
    hold: HoldOrder | None
    refusal: Reply | None
    """What an automatic reply gets that the rule would hold: those are never held (man/out-of-office)."""
    transforms: tuple[Transform, ...]
    notices: tuple[Notice, ...]
    on_failure: Disposition
    on_limit: Disposition
    aspects: Aspect
    checks: frozenset[Check]
    early: bool
    """True for a reject or defer that can be certain before the message is there."""
    exceptions: tuple[ExceptionFor, ...]
    needs: frozenset[Check]
    """Checks each of which must have found something before the rule can hold."""
    open: bool
    """True: nothing that is known before the content can rule it out for a direction in which it may hold at all."""
    place: int
    """Its place among all rules: the order in which matches, transforms and equally strong replies stand."""
    file: str
    lines: tuple[int, ...]
    """Where each case begins in the file."""
    spec: RuleFile

    def value(self, facts: Facts, recipient: Recipient | None) -> int:
        """NO, UNKNOWN or YES: ``when`` holds and ``unless`` does not."""
        value = self.when.value(facts, recipient)
        if value == NO or self.unless is None:
            return value
        return min(value, 2 - self.unless.value(facts, recipient))

    def blame(self, facts: Facts, recipient: Recipient | None) -> frozenset[Check]:
        """The checks whose missing answer leaves the rule undecided."""
        found = self.when.blame(facts, recipient)
        return found if self.unless is None else found | self.unless.blame(facts, recipient)

    def used(self, facts: Facts, recipient: Recipient | None) -> tuple[str, ...]:
        """Ids of exception records that keep the rule from acting here."""
        if not self.exceptions or self.unless is None or self.when.value(facts, recipient) == NO:
            return ()
        if self.unless.value(facts, recipient) != YES:
            return ()
        return tuple(r for node in self.exceptions for r in node.records(facts, recipient))

    def failure(
        self, checks: frozenset[Check], automatic: bool, limited: frozenset[Check]
    ) -> tuple[Disposition, Reply | None, HoldOrder | None]:
        """What ``on_failure`` does, or ``on_limit`` when all of the checks are ``limited``: failed at a limit alone.

        Automatic replies are never held (man/out-of-office): they are deferred instead.
        """
        names = ", ".join(sorted(checks))
        chosen = self.on_limit if checks and checks <= limited else self.on_failure
        if chosen is Disposition.PASS:
            return Disposition.PASS, None, None
        if chosen is Disposition.REJECT:
            text = f"A check that the mail policy requires could not be made ({names}); the message is refused"
            return Disposition.REJECT, Reply.of(554, "5.7.1", f"{text} [{self.id}]"), None
        if chosen is Disposition.HOLD and not automatic:
            order = self.hold or HoldOrder(rule=self.id, queue=CONTROL_QUEUE, roles=())
            reason = f"A check that this rule needs could not be made: {names}. {self.title}."
            return Disposition.HOLD, None, replace(order, reason=reason)
        text = f"A required check is not available ({names}), please try again later"
        return Disposition.DEFER, Reply.of(451, "4.7.1", f"{text} [{self.id}]"), None


def compile_rule(
    spec: RuleFile, document: Document, place: int = 0, fill: Callable[[str], str] = lambda text: text
) -> Rule:
    """Compile a validated rule. ``fill`` resolves placeholders in texts for people."""
    heads = [DirectionIs(spec.direction)] if spec.direction else []
    when = every([*heads, *([compile_condition(spec.when)] if spec.when else [])])
    unless = compile_condition(spec.unless) if spec.unless else None
    nodes = [*walk(when), *(walk(unless) if unless else ())]
    then = spec.then
    disposition = then.disposition
    refusal = then.reject or then.defer
    return Rule(
        id=spec.id,
        title=spec.title,
        source=spec.source,
        mode=spec.mode,
        when=when,
        unless=unless,
        disposition=disposition,
        reply=_reply(spec, refusal, fill) if refusal else None,
        hold=_hold(spec, then.hold, fill) if then.hold else None,
        refusal=_instead(spec) if then.hold else None,
        transforms=_transforms(spec, fill),
        notices=tuple(Notice(spec.id, n.roles, fill(n.reason)) for n in then.notify),
        on_failure=spec.on_failure,
        on_limit=spec.on_limit or spec.on_failure,
        aspects=_aspects(when, unless),
        checks=when.checks | (unless.checks if unless else frozenset()),
        early=refusal is not None and when.early and (unless is None or unless.early),
        exceptions=tuple(n for n in nodes if isinstance(n, ExceptionFor)),
        needs=when.needs(),
        open=_is_open(when),
        place=place,
        file=document.file,
        lines=tuple(document.error(("cases", n), "").line for n in range(len(spec.cases))),
        spec=spec,
    )


def _is_open(when: Node) -> bool:
    """Every condition asks a check but the direction, which stands on top or nowhere."""
    top = when.children if isinstance(when, Several) and when.settles == NO else (when,)
    rest = [node for part in top if not isinstance(part, DirectionIs) for node in walk(part)]
    return all(node.checks for node in rest if not isinstance(node, (Several, Not)))


def _aspects(when: Node, unless: Node | None) -> Aspect:
    return when.aspects | (unless.aspects if unless else Aspect.NONE)


def _reply(spec: RuleFile, refusal: Reject | Defer, fill: Callable[[str], str]) -> Reply:
    """The policy's words, then the clauses and the rule, so that the sender can look them up and IT can find it."""
    rows = fill(refusal.text).split("\n")
    tail = f"Policy {', '.join(spec.source)} [{spec.id}]"
    if len(rows[-1]) + len(tail) + 2 <= REPLY_LINE:
        end = "" if rows[-1].endswith((".", "!", "?")) else "."
        rows[-1] = f"{rows[-1]}{end} {tail}"
    else:
        rows.append(tail)
    return Reply.of(refusal.code, refusal.enhanced, "\n".join(rows))


def _instead(spec: RuleFile) -> Reply:
    """The refusal in a hold's place."""
    text = "An automatic message does not wait for a person's decision, and this one would have to"
    return Reply.of(554, "5.7.1", f"{text}. Policy {', '.join(spec.source)} [{spec.id}]")


def _hold(spec: RuleFile, hold: Hold, fill: Callable[[str], str]) -> HoldOrder:
    return HoldOrder(
        spec.id,
        hold.queue,
        hold.approvers.named,
        hold.expires,
        fill(hold.reason),
        fill(hold.tell_sender),
        need=hold.approvers.need,
        remind_after=hold.remind_after,
        remind_every=hold.remind_every,
        escalate_after=hold.escalate_after,
        escalate_to=hold.escalate_to,
        attestation=" ".join(fill(hold.attestation.text).split()) if hold.attestation else "",
        exceptions=tuple(sorted(_exceptions(spec.unless))) if spec.unless else (),
    )


def _exceptions(spec: Condition) -> set[str]:
    """Kinds of records of which one alone makes ``unless`` hold: what stands there, or under ``any``, by itself."""
    alone = {spec.exception} if spec.exception and spec.model_fields_set == {"exception"} else set()
    inner = spec.any_ if spec.model_fields_set == {"any_"} else ()
    return alone.union(*(_exceptions(below) for below in inner))


def _transforms(spec: RuleFile, fill: Callable[[str], str]) -> tuple[Transform, ...]:
    """In the order of application (design section 2.6)."""
    then, rule, failure = spec.then, spec.id, spec.on_failure
    made = [
        Transform(TransformKind.HEADER, rule, name=h.name, value=fill(h.value), on_failure=failure) for h in then.header
    ]
    if then.insert_signature_block:
        lines = tuple(map(fill, then.insert_signature_block.lines))
        words = tuple(map(fill, then.insert_signature_block.wordings))
        made.append(Transform(TransformKind.SIGNATURE_BLOCK, rule, lines=lines, wordings=words, on_failure=failure))
    for kind, put in ((TransformKind.BANNER, then.banner), (TransformKind.LEGEND, then.legend)):
        if put:
            made.append(Transform(kind, rule, id=put.id, lines=tuple(map(fill, put.lines)), on_failure=failure))
    if then.encrypt:
        made.append(Transform(TransformKind.ENCRYPT, rule, methods=then.encrypt.methods, on_failure=failure))
    return tuple(made)


def compile_condition(spec: Condition) -> Node:
    """All keys hold together; a list under a key means any of its values."""
    nodes: list[Node] = [DirectionIs(spec.direction)] if spec.direction else []
    for key, kind in _LISTED.items():
        values = getattr(spec, key)
        if values:
            nodes.append(some([kind(value) for value in values]))
    nodes.extend(_single(spec))
    nodes.extend(compile_condition(inner) for inner in spec.all_)
    if spec.any_:
        nodes.append(some([compile_condition(inner) for inner in spec.any_]))
    if spec.not_:
        nodes.append(Not(compile_condition(spec.not_)))
    return every(nodes)


_LISTED: Mapping[str, Callable[[Strict], Node]] = {
    "sender": SenderIs,
    "recipient": RecipientIs,
    "header": HeaderIs,
    "attachment": AttachmentIs,
    "content": ContentIs,
    "link": LinkIs,
    "encrypted": EncryptedIs,
}


def _single(spec: Condition) -> Iterable[Node]:
    if spec.size:
        yield SizeIs(spec.size)
    if spec.automatic_reply:
        yield AutomaticReply()
    if spec.exception:
        yield ExceptionFor(spec.exception)
    if spec.virus:
        yield KindIs(Check.VIRUS, spec.virus, "a virus is found" + _named(spec.virus))
    if spec.structure:
        yield KindIs(Check.STRUCTURE, spec.structure, "structure has " + " or ".join(spec.structure))
    if spec.legend:
        yield KindIs(Check.LEGEND, (spec.legend.present,), f"legend {spec.legend.present} stands in the message")
    if spec.signature_block:
        yield SignatureBlockMissing(spec.signature_block.missing)
    if spec.control:
        yield ControlFailed(spec.control.failed)


def _named(globs: tuple[str, ...]) -> str:
    return "" if globs == ("*",) else " named " + " or ".join(globs)


def legend_of(rule: Rule) -> LegendText | None:
    """The legend that the rule puts, if it puts one."""
    for transform in rule.transforms:
        if transform.kind is TransformKind.LEGEND:
            return LegendText(transform.id, transform.lines)
    return None
