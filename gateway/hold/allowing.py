"""«Release, and allow the like until …»: an exception record that is written with a release.

It stands in for all approvals that the rule would ask for the next time. Refuses it therefore until everybody whose
approval counts has asked for the very same one, for rules that know no exceptions, beyond a year, and to recipients for
whom others would be asked.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import OperatorError, StoreError
from gateway.hold import exceptions, values
from gateway.hold.approval import LIST_OWNERS
from gateway.hold.values import Decision, HeldItem
from gateway.model.envelope import ExceptionRecord, fold

LONGEST = timedelta(days=366)
MOST = 50
"""Recipients for which one word makes records; for more, a list is the way."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """What the approver wants to let pass from now on."""

    expires: datetime
    """Aware."""
    recipients: tuple[str, ...] = ()
    """Addresses, ``@domain`` or ``*``; none: those of the item."""
    max_size: int | None = None
    """Octets, None: any size."""
    once: bool = False
    """For one more message only."""


def noted(said: Decision, item: HeldItem, allow: Allowance | None) -> Decision:
    """The decision with the wish in it. Raises OperatorError."""
    if allow is None:
        return said
    if why := _unfit(item):
        raise OperatorError(why)
    if not said.at < allow.expires <= said.at + LONGEST:
        raise OperatorError("An exception ends in the future, within a year.")
    kinds = sorted({kind for order in item.orders for kind in order.exceptions})
    to = sorted({fold(a) for a in allow.recipients or [r.address for r in item.recipients]})
    wider = set(to) - {fold(r.address) for r in item.recipients}
    if wider and _owners_asked(item):
        raise OperatorError(
            f"Owners of lists can allow mail to these lists only, not to {', '.join(sorted(wider))}: others have other "
            "owners."
        )
    if len(to) > MOST:
        raise OperatorError(f"An exception for {len(to)} recipients: name a domain, or *, instead.")
    wish = {"kinds": kinds, "to": to, "until": allow.expires.isoformat(), "max": allow.max_size, "once": allow.once}
    return replace(said, allow=values.dump(wish))


def choices(item: HeldItem) -> tuple[str, ...]:
    """Towards whom :func:`noted` takes a wish: ``""`` (the item's own recipients), ``@domain``, ``*``; perhaps none.

    Domains are those of the first hundred recipients, nine at most.
    """
    if _unfit(item):
        return ()
    own = [fold(recipient.address) for recipient in item.recipients]
    found = [""] if len(set(own)) <= MOST else []
    if not _owners_asked(item):
        domains = dict.fromkeys(address.rpartition("@")[2] for address in own[:100] if "@" in address)
        found += [*(f"@{domain}" for domain in list(domains)[:9]), "*"]
    return tuple(found)


def _unfit(item: HeldItem) -> str:
    """Why nothing like this item can be allowed; ``""`` when it can."""
    without = [order.rule for order in item.orders if not order.exceptions]
    if without:
        return f"The rule {', '.join(without)} knows no exceptions («unless: exception» in its file)."
    return "" if item.message.reverse_path else f"{item.id} has no sender for whom something could be allowed."


def _owners_asked(item: HeldItem) -> bool:
    """Whoever owns one list cannot speak for the owners of others."""
    return any(LIST_OWNERS in order.roles for order in item.orders)


def agreed(counted: Sequence[Decision], item: HeldItem, now: datetime) -> tuple[ExceptionRecord, ...]:
    """The records that all approvals ask for; none when one of them asks for none, or for another."""
    wishes = {said.allow for said in counted}
    if len(wishes) != 1 or wishes == {""}:
        return ()
    wish = _wish(wishes.pop())
    people = ", ".join(said.person for said in counted)
    reasons = "; ".join(said.comment for said in counted if said.comment) or "allowed with the release"
    return tuple(
        exceptions.checked(
            ExceptionRecord(
                id=f"ex-{secrets.token_hex(4)}",
                kind=kind,
                sender=item.message.reverse_path,
                recipient=to,
                reason=f"{reasons} ({item.id})",
                approver=people,
                created=now,
                expires=datetime.fromisoformat(wish["until"]),
                uses_left=1 if wish["once"] else None,
                max_size=wish["max"],
            )
        )
        for kind in wish["kinds"]
        for to in wish["to"]
    )


async def add(connection: AsyncConnection, records: Sequence[ExceptionRecord], os_user: str) -> None:
    """Write them inside the caller's transaction, each with its event."""
    for record in records:
        await exceptions.insert_record(connection, record, os_user)


def words(said: Decision, records: Sequence[ExceptionRecord]) -> str:
    """The comment in the item's history, with what was wished and what came of it."""
    if not said.allow:
        return said.comment
    wish = _wish(said.allow)
    text = f"allow {', '.join(wish['kinds'])} to {', '.join(wish['to'])} until {wish['until']}"
    text += f": {', '.join(record.id for record in records)}" if records else ""
    return f"{said.comment} [{text}]".strip()


def _wish(text: str) -> dict[str, Any]:
    try:
        return dict(orjson.loads(text))
    except (orjson.JSONDecodeError, TypeError, ValueError) as error:
        raise StoreError(f"a stored wish for an exception cannot be read: {error}") from error
