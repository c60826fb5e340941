"""Who is told what: composes the letters that go with each turn of a held item or a delivery.

Refuses to write to a null reverse-path, in answer to automatic or list mail (RFC 3834 section 2; a failed delivery is
reported all the same, that is what RFC 5321 section 6.1 asks for), and to a sender who asked for NOTIFY=NEVER.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

from gateway.hold.approval import Directory, Slot
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
from gateway.hold.values import Decision, HeldItem, MessageFacts, list_ids
from gateway.model.envelope import Recipient
from gateway.model.reply import Reply
from gateway.model.verdict import Notice
from gateway.settings import NoticeSettings

SHOWN = 20
"""Recipients that a notice lists; the rest is counted."""


class Post:
    """Letters by occasion."""

    def __init__(self, settings: NoticeSettings, domain: str, hostname: str) -> None:
        """Read the templates. ``domain``: the city's, for the notices' From. Raises ConfigErrors."""
        self._templates = Templates(settings.templates)
        self._settings = settings
        self._sender = settings.sender or f"civicgate@{domain}"
        self._hostname = hostname or domain

    def held(self, item: HeldItem, slots: Sequence[Slot], now: datetime) -> list[Letter]:
        """To approvers and to the sender, when an item begins to wait."""
        values = self._values(item) | {"roles": _needed(slots), "people": str(item.audience or "(not known)")}
        people = sorted({person for slot in slots for person in slot.people})
        letters = []
        if people:
            letters.append(self._notice(f"{item.id}-held{item.round}", "held-approver", people, values, now))
        if may_answer(item.message):
            letters.append(self._answer(f"{item.id}-wait{item.round}", "held-sender", item.message, values, now))
        return letters

    def approved(self, item: HeldItem, said: Sequence[Decision], actor: str, now: datetime) -> list[Letter]:
        """To the sender, and to the other people who said yes, when the last approval is in."""
        values = self._values(item) | {"actor": actor, "decision": "approved"}
        letters = self._decided(item, [d.person for d in said], actor, values, now)
        if may_answer(item.message):
            letters.append(self._answer(f"{item.id}-ok{item.round}", "approved-sender", item.message, values, now))
        return letters

    def ended(
        self, item: HeldItem, slots: Sequence[Slot], why: tuple[str, str, str], now: datetime, original: Original | None
    ) -> tuple[list[Letter], Letter | None]:
        """Rejected or expired: notices to approvers, and the return to the sender (None where none is allowed).

        ``why``: what happened (``rejected``, ``expired``), who, and the reason in words.
        """
        decision, actor, comment = why
        values = self._values(item) | {"decision": decision, "actor": actor, "comment": comment}
        people = sorted({person for slot in slots for person in slot.people})
        letters = self._decided(item, people, actor, values, now)
        told = [recipient for recipient in item.recipients if wants_failure(recipient)]
        if not may_answer(item.message) or not told:
            return letters, None
        reply = (
            Reply.of(554, "5.4.7", "Nobody decided in time, the message was not delivered")
            if decision == "expired"
            else Reply.of(550, "5.7.1", f"Not approved: {comment}")
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
            holders = {address for role in wanted.roles for address in directory.holders(role, facts.reverse_path)}
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
            "queue": item.queue,
            "rules": ", ".join(rules),
            "clauses": ", ".join(dict.fromkeys(clause for match in item.matches for clause in match.source))
            or "(none)",
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


def _needed(slots: Sequence[Slot]) -> str:
    rows = []
    for slot in slots:
        people = ", ".join(sorted(slot.people)) or "nobody holds this role!"
        rows.append(f"  {slot.role}: {people}{' (fallback)' if slot.fallback else ''}")
    return "\n".join(rows)
