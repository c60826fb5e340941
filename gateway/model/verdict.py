"""The verdict: one value that says, per group of recipients, what happens and why."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from gateway.model.envelope import Recipient
from gateway.model.reply import Reply


class Disposition(StrEnum):
    """What becomes of the message for a recipient."""

    PASS = "pass"  # noqa: S105
    DISCARD = "discard"
    HOLD = "hold"
    DEFER = "defer"
    REJECT = "reject"


STRENGTH = {
    Disposition.PASS: 0,
    Disposition.DISCARD: 1,
    Disposition.HOLD: 2,
    Disposition.DEFER: 3,
    Disposition.REJECT: 4,
}
"""Design section 5: reject > defer > hold > discard > pass."""


class Mode(StrEnum):
    """A rule's mode: ``monitor`` counts but does not act."""

    ENFORCE = "enforce"
    MONITOR = "monitor"
    OFF = "off"


class TransformKind(StrEnum):
    """Transforms in the order in which they are applied (design section 2.6)."""

    HEADER = "header"
    SIGNATURE_BLOCK = "signature-block"
    BANNER = "banner"
    LEGEND = "legend"
    ENCRYPT = "encrypt"


@dataclass(frozen=True, slots=True)
class Transform:
    """One change that a rule wants. Serialisable: held mail keeps it until release."""

    kind: TransformKind
    rule: str
    """Id of the rule that asked for it; its ``on_failure`` decides when the transform cannot be done."""
    id: str = ""
    """legend, banner: its id (so that it is put once)."""
    lines: tuple[str, ...] = ()
    """legend, banner, signature-block: the text."""
    name: str = ""
    """header: field name."""
    value: str = ""
    """header: field value."""
    methods: tuple[str, ...] = ()
    """encrypt: methods in order of preference (``smime``)."""
    wordings: tuple[str, ...] = ()
    """signature-block: phrases of which one already present means that there is nothing to do."""
    on_failure: Disposition = Disposition.DEFER


@dataclass(frozen=True, slots=True)
class HoldOrder:
    """Who must approve, in which queue, and until when."""

    rule: str
    queue: str
    """Named queue for metrics and lists, e.g. ``all-city``, ``encryption``, ``quarantine``."""
    roles: tuple[str, ...]
    """These roles must approve, each by another person, none the sender. Empty: the settings' fallback role."""
    expires_after: timedelta | None = None
    """None: the setting's default."""
    reason: str = ""
    """One sentence for people, citing the policy."""
    tell_sender: str = ""
    """What the sender is told to do, ``""`` for the template's default."""
    need: int | None = None
    """How many of the roles are enough, each by another person; None: all of them."""
    remind_after: timedelta | None = None
    """When approvers are reminded, after they were asked; None: the setting's default."""
    remind_every: timedelta | None = None
    """How often after that; None: not again."""
    escalate_after: timedelta | None = None
    """When ``escalate_to`` is asked too, after the approvers were; None: never."""
    escalate_to: tuple[str, ...] = ()
    """Roles that then can fill any of ``roles``."""
    attestation: str = ""
    """What the sender must confirm before anybody is asked, ``""``: nothing."""
    exceptions: tuple[str, ...] = ()
    """Kinds of exception records that keep the rule from acting: what «release and allow» can write."""

    @property
    def asked(self) -> str:
        """Who must approve, in words: ``director and clerk``, ``any of …``, ``2 of …``; ``""``: the fallback role."""
        if self.need is None or self.need >= len(self.roles):
            return " and ".join(self.roles)
        return f"{'any' if self.need == 1 else self.need} of {', '.join(self.roles)}"


@dataclass(frozen=True, slots=True)
class Notice:
    """Somebody is told of a match."""

    rule: str
    roles: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class RuleMatch:
    """A rule that matched, for whom, and on what evidence."""

    rule: str
    title: str
    mode: Mode
    disposition: Disposition
    source: tuple[str, ...]
    """Policy clause ids."""
    why: str
    """Words for a person, evidence redacted."""
    failed_control: str = ""
    """Set when the rule did not match but a control that it needs failed, and its ``on_failure`` acted."""


@dataclass(frozen=True, slots=True)
class RecipientGroup:
    """Recipients that get the same treatment."""

    recipients: tuple[Recipient, ...]
    disposition: Disposition
    transforms: tuple[Transform, ...] = ()
    """In the order of application."""
    holds: tuple[HoldOrder, ...] = ()
    """All orders that apply; roles add up."""
    reply: Reply | None = None
    """The refusal for reject and defer."""
    matches: tuple[RuleMatch, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """The whole answer. ``groups`` partition the recipients of the envelope."""

    groups: tuple[RecipientGroup, ...]
    refusal: Reply | None = None
    """Set when any group is rejected or deferred at end of data: the whole message is refused with this reply."""
    notices: tuple[Notice, ...] = ()
    used_exceptions: tuple[str, ...] = ()
    """Ids of exception records that kept a rule from acting."""

    @property
    def disposition(self) -> Disposition:
        """The strongest disposition of all groups (for the log and the metrics)."""
        return max((g.disposition for g in self.groups), key=STRENGTH.__getitem__, default=Disposition.PASS)
