"""Who is told what: composes the letters that go with each turn of a held item or a delivery.

Refuses to write to a null reverse-path, in answer to automatic or list mail (RFC 3834 section 2; a failed delivery is
reported all the same, that is what RFC 5321 section 6.1 asks for), and to a sender who asked for NOTIFY=NEVER.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from gateway.hold import pages
from gateway.hold.approval import LIST_OWNERS, Directory, Needs, Slot
from gateway.hold.letters import (
    Letter,
    Original,
    Refusal,
    Sheet,
    Templates,
    notice,
    report,
    wants_failure,
)
from gateway.hold.links import NewLink, Purpose
from gateway.hold.states import Event
from gateway.hold.values import Decision, HeldItem, MessageFacts, list_ids
from gateway.model.envelope import Recipient
from gateway.model.reply import Reply
from gateway.model.verdict import Notice
from gateway.settings import NoticeSettings

SHOWN = 20
"""Recipients that a notice lists; the rest is counted."""
OCCASIONS = {
    Event.REMIND: "Reminder",
    Event.ESCALATE: "Nobody has decided yet",
}
ASKED = "Please decide"


@dataclass(frozen=True, slots=True)
class Ended:
    """How an item ended."""

    decision: str
    """``rejected``, ``expired`` or ``withdrawn``."""
    actor: str
    comment: str


class Post:
    """Letters by occasion."""

    def __init__(self, settings: NoticeSettings, domain: str, hostname: str, console: str = "") -> None:
        """Read the templates. Raises ConfigErrors.

        ``domain``: the city's, for the notices' From. ``console``: its address as people reach it, without a slash at
        the end; ``""``: there is none, letters name commands.
        """
        self._templates = Templates(settings.templates)
        self._settings = settings
        self._sender = settings.sender or f"civicgate@{domain}"
        self._hostname = hostname or domain
        self.domain = self._sender.rpartition("@")[2]
        """In Message-IDs that we make: the same on every node."""
        self._console = console

    def held(self, item: HeldItem, needs: Needs, now: datetime) -> list[Letter]:
        """To each approver, and to the sender, when an item begins to wait for approval."""
        letters = self._asked(item, needs, sorted(needs.people), ASKED, f"held{item.round}", now)
        if self._may_tell(item.message):
            values = self._values(item)
            letters.append(self._answer(f"{item.id}-wait{item.round}", "held-sender", item.message, values, now))
        return letters

    def again(self, item: HeldItem, needs: Needs, people: Iterable[str], what: Event, now: datetime) -> list[Letter]:
        """To people who are reminded, or asked because nobody has decided."""
        stamp = f"{what}{item.round}-{int(now.timestamp())}"
        return self._asked(item, needs, sorted(set(people)), OCCASIONS[what], stamp, now)

    def _asked(
        self, item: HeldItem, needs: Needs, people: Sequence[str], occasion: str, name: str, now: datetime
    ) -> list[Letter]:
        """One letter a person: it says as what this one is asked, and its links are this one's alone."""
        values = self._values(item) | {"roles": _needed(needs), "occasion": occasion}
        letters = []
        for number, person in enumerate(people, 1):
            link = NewLink(item, person, Purpose.DECIDE) if self._console else None
            text, page = pages.decide(self._console, item.id, link)
            mine = {"mine": _mine(needs, person)}
            sheet = self._sheet(f"{item.id}-{name}-{number}", (person,), "", now)
            letters.append(self._page("held-approver", sheet, values | mine, (text, page), link))
        return letters

    def attest(self, item: HeldItem, now: datetime) -> list[Letter]:
        """To the sender, who has to confirm something before anybody is asked; to nobody when none may be answered."""
        if not self._may_return(item.message):
            return []
        path = item.message.reverse_path
        link = NewLink(item, path, Purpose.ATTEST) if self._console else None
        values = self._values(item) | {"attestation": "\n".join(f"  {text}" for text in item.attestations)}
        sheet = self._sheet(f"{item.id}-attest", (path,), "", now, item.message.message_id or "<>")
        return [self._page("attest-sender", sheet, values, pages.attest(self._console, item.id, link), link)]

    def vacant(self, item: HeldItem, needs: Needs, people: Iterable[str], now: datetime) -> list[Letter]:
        """To those who look after the gateway: nobody holds a role, or too few do."""
        to = sorted(set(people))
        values = self._values(item) | {"roles": "\n".join(f"  {role}" for role in needs.vacant)}
        return [self._notice(f"{item.id}-vacant{item.round}", "no-approver", to, values, now)] if to else []

    def approved(self, item: HeldItem, said: Sequence[Decision], actor: str, now: datetime) -> list[Letter]:
        """To the sender, and to the other people who said yes, when the last approval is in."""
        values = self._values(item) | {"actor": actor, "decision": "approved"}
        letters = self._decided(item, [d.person for d in said], actor, values, now)
        if self._may_tell(item.message):
            letters.append(self._answer(f"{item.id}-ok{item.round}", "approved-sender", item.message, values, now))
        return letters

    def withdrawn(self, item: HeldItem, people: Iterable[str], ended: Ended, now: datetime) -> list[Letter]:
        """To the approvers who were asked, and to the sender, who took it back."""
        values = self._values(item) | {"decision": ended.decision, "actor": ended.actor, "comment": ended.comment}
        letters = self._decided(item, people, ended.actor, values, now)
        if self._may_tell(item.message):
            letters.append(self._answer(f"{item.id}-withdrawn", "withdrawn-sender", item.message, values, now))
        return letters

    def ended(
        self, item: HeldItem, people: Iterable[str], ended: Ended, now: datetime, original: Original | None
    ) -> tuple[list[Letter], Letter | None]:
        """Rejected or expired: notices to approvers, and the return to the sender (None where none is allowed)."""
        values = self._values(item) | {"decision": ended.decision, "actor": ended.actor, "comment": ended.comment}
        letters = self._decided(item, people, ended.actor, values, now)
        told = [recipient for recipient in item.recipients if wants_failure(recipient)]
        if not self._may_return(item.message) or not told:
            return letters, None
        reply = (
            Reply.of(554, "5.4.7", f"Not delivered: {ended.comment}")
            if ended.decision == "expired"
            else Reply.of(550, "5.7.1", f"Not approved: {ended.comment}")
        )
        refusals = [Refusal(recipient, reply) for recipient in told]
        subject, text = self._templates.fill("returned", values)
        sheet = self._sheet(f"{item.id}-return", (item.message.reverse_path,), subject, now, item.message.message_id)
        return letters, report(sheet, text, item.message, self._hostname, refusals, original)

    def undeliverable(
        self, ident: str, facts: MessageFacts, refusals: Sequence[Refusal], original: Original | None, now: datetime
    ) -> Letter | None:
        """The notification of a delivery that failed for good; None where none is allowed (null reverse-path)."""
        told = [refusal for refusal in refusals if wants_failure(refusal.recipient)]
        if not facts.reverse_path or not told:
            return None
        values = self._facts(facts) | {
            "id": ident,
            "recipients": _listed([r.recipient for r in told]),
            "reason": "\n".join(f"  {r.recipient.address}: {r.reply}" for r in told[:SHOWN]),
        }
        subject, text = self._templates.fill("undeliverable", values)
        sheet = self._sheet(ident, (facts.reverse_path,), subject, now, facts.message_id)
        return report(sheet, text, facts, self._hostname, told, original)

    def damaged(self, ident: str, facts: MessageFacts, people: Iterable[str], now: datetime) -> list[Letter]:
        """To those who look after the gateway: a stored body cannot be used."""
        to = sorted(set(people))
        values = self._facts(facts) | {"id": ident}
        return [self._notice(f"{ident}-damaged", "damaged", to, values, now)] if to else []

    def matched(
        self, facts: MessageFacts, recipients: Sequence[Recipient], notices: Sequence[Notice], directory: Directory
    ) -> list[Letter]:
        """By rule ``notify``: to the holders of its roles."""
        letters = []
        for number, wanted in enumerate(notices, 1):
            holders = {a for role in wanted.roles for a in _holders(role, facts, recipients, directory)}
            if holders:
                values = self._facts(facts) | {
                    "id": facts.id,
                    "rules": wanted.rule,
                    "reason": wanted.reason,
                    "roles": ", ".join(wanted.roles),
                    "recipients": _listed(recipients),
                }
                ident = f"{facts.id}-notify{number}"
                letters.append(self._notice(ident, "rule-notice", sorted(holders), values, facts.received))
        return letters

    def _may_tell(self, facts: MessageFacts) -> bool:
        """Whether the sender hears how it goes."""
        return may_answer(facts) and (facts.client.inside or self._settings.outside == "all")

    def _may_return(self, facts: MessageFacts) -> bool:
        """Whether the sender is asked, and has back what is not delivered."""
        return may_answer(facts) and (facts.client.inside or self._settings.outside != "none")

    def _decided(
        self, item: HeldItem, people: Iterable[str], actor: str, values: dict[str, str], now: datetime
    ) -> list[Letter]:
        others = sorted(set(people) - {actor})
        ident = f"{item.id}-{values['decision']}{item.round}"  # approved, then damaged and rejected: two letters
        return [self._notice(ident, "decided-approver", others, values, now)] if others else []

    def _notice(self, ident: str, name: str, to: Sequence[str], values: dict[str, str], now: datetime) -> Letter:
        subject, text = self._templates.fill(name, values)
        return notice(self._sheet(ident, tuple(to), subject, now), text)

    def _answer(self, ident: str, name: str, facts: MessageFacts, values: dict[str, str], now: datetime) -> Letter:
        subject, text = self._templates.fill(name, values)
        return notice(self._sheet(ident, (facts.reverse_path,), subject, now, facts.message_id or "<>"), text)

    def _page(
        self, name: str, sheet: Sheet, values: dict[str, str], how: tuple[str, str], link: NewLink | None
    ) -> Letter:
        """A letter as text and as HTML. ``how``: what can be done, in both."""
        subject, text = self._templates.fill(name, values | {"decide": how[0]})
        page = self._templates.page(name, values | {"decide": how[1]})
        filled = Sheet(sheet.id, sheet.sender, sheet.recipients, sheet.now, subject, sheet.answers)
        return notice(filled, text, page, link)

    def _sheet(self, ident: str, to: tuple[str, ...], subject: str, now: datetime, answers: str = "") -> Sheet:
        return Sheet(ident, self._sender, to, now, subject, answers)

    def _facts(self, facts: MessageFacts) -> dict[str, str]:
        return {
            "transfer_service": self._settings.transfer_service,
            "city": self._settings.city_name,
            "sender": facts.reverse_path or "(none: an automatic message)",
            "subject": facts.subject or "(none)",
            "size": in_words(facts.size),
            "message_id": facts.message_id,
            "received": in_local_time(facts.received),
            "digest": facts.sha256,
        }

    def _values(self, item: HeldItem) -> dict[str, str]:
        rules = dict.fromkeys([order.rule for order in item.orders] + [match.rule for match in item.matches])
        lists = list_ids(item.recipients)
        return self._facts(item.message) | {
            "id": item.id,
            "recipients": _listed(item.recipients),
            "lists": ", ".join(lists) or "(none)",
            "people": str(item.audience or "(not known)"),
            "queue": item.queue,
            "rules": ", ".join(rules),
            "clauses": ", ".join(dict.fromkeys(clause for match in item.matches for clause in match.source))
            or "(none)",
            "fired": _fired(item, rules),
            "attested": _attested(item),
            "reason": "\n".join(f"  {order.reason}" for order in item.orders if order.reason),
            "action": " ".join(dict.fromkeys(" ".join(o.tell_sender.split()) for o in item.orders if o.tell_sender))
            or "You need not do anything: you will be told what was decided.",
            "expires": in_local_time(item.expires),
        }


def may_answer(facts: MessageFacts) -> bool:
    """Whether the sender may be written to about a message: a real reverse-path, and not automatic mail."""
    return bool(facts.reverse_path) and not facts.automatic


def in_local_time(at: datetime) -> str:
    """As the city's clocks show it, with the zone: ``2026-11-24 02:00 CST``."""
    return f"{at.astimezone():%Y-%m-%d %H:%M %Z}"


def in_words(octets: int) -> str:
    """``1.4 MB``."""
    if octets < 1000:
        return f"{octets} bytes"
    return f"{octets / 1000:.0f} kB" if octets < 1_000_000 else f"{octets / 1_000_000:.1f} MB"


def _listed(recipients: Sequence[Recipient]) -> str:
    rows = [f"  {recipient.address}" for recipient in recipients[:SHOWN]]
    more = len(recipients) - SHOWN
    return "\n".join(rows + ([f"  … and {more} more"] if more > 0 else []))


def _fired(item: HeldItem, rules: Iterable[str]) -> str:
    """Each rule with its title and its clauses."""
    told = {match.rule: f"{match.rule}: {match.title} ({', '.join(match.source)})" for match in item.matches}
    return "\n".join(f"  {told.get(rule, rule)}" for rule in rules)


def _attested(item: HeldItem) -> str:
    if not item.attestations:
        return "(nothing was asked of the sender)"
    return "\n".join(f"  The sender has confirmed: {text}" for text in item.attestations)


def _needed(needs: Needs) -> str:
    """Every role with its people; what of a choice is enough, in front."""
    rows = [_slot(slot) for slot in needs.slots if slot.role in needs.required]
    for choice in needs.choices:
        rows.append(f"  {choice.count} of these:")
        rows += [f"  {_slot(slot)}" for slot in needs.slots if slot.role in choice.roles]
    return "\n".join(rows)


def _slot(slot: Slot) -> str:
    why = dict(slot.why)
    people = [f"{person} ({why[person]})" if person in why else person for person in sorted(slot.people)]
    return f"  {slot.role}: {', '.join(people) or 'nobody holds this role!'}{' (fallback)' if slot.fallback else ''}"


def _mine(needs: Needs, person: str) -> str:
    """As what this person is asked."""
    why = {who: words for slot in needs.slots for who, words in slot.why}.get(person, "")
    roles = ", ".join(needs.roles_of(person)) or "none"
    return f"{roles} ({why})" if why else roles


def _holders(role: str, facts: MessageFacts, recipients: Sequence[Recipient], directory: Directory) -> tuple[str, ...]:
    if role != LIST_OWNERS:
        return directory.holders(role, facts.reverse_path)
    found = (directory.list(name) for name in list_ids(recipients))
    return tuple(owner for one in found if one is not None for owner in one.owners)
