"""Asking people: the letters when an item begins to wait, and the alarm when nobody holds a role that it needs.

Refuses to let a vacant role go unnoticed: the fallback role is asked in its place and told so, a line stands in the
log, a counter goes up. An item that nobody can approve is never delivered: it goes back when its time is over.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

from gateway.hold.approval import Needs
from gateway.hold.core import Core
from gateway.hold.letters import Letter
from gateway.hold.states import State
from gateway.hold.values import HeldItem
from gateway.metrics import HOLD_ALARMS

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Asking:
    """What goes out with an item that begins to wait."""

    item: HeldItem
    needs: Needs
    letters: tuple[Letter, ...]

    def alarm(self) -> None:
        """Log and count, once the item is committed."""
        if self.item.state is not State.HELD or not self.needs.vacant:
            return
        kind = "fallback" if self.needs.possible else "nobody"
        HOLD_ALARMS.labels(kind).inc()
        _log.error("no-approver", item=self.item.id, roles=", ".join(self.needs.vacant), instead=kind)


def waiting(core: Core, item: HeldItem) -> HeldItem:
    """The item in its first state: it waits for its sender's word where an order wants one, else for approvers."""
    if item.attestations:
        return replace(item, state=State.ATTESTING, asked=None, escalated=None, reminded=None)
    return replace(item, state=State.HELD, asked=item.changed, escalated=None, reminded=None)


def asking(core: Core, item: HeldItem, now: datetime) -> Asking:
    """The letters for an item that begins to wait, to its sender and to whom it waits for."""
    needs = core.needs(item, now)
    if item.state is State.ATTESTING:
        return Asking(item, needs, tuple(core.post.attest(item, now)))
    letters = core.post.held(item, needs, now)
    if needs.vacant:
        letters += core.post.vacant(item, needs, core.fallback_people(item.message), now)
    return Asking(item, needs, tuple(letters))


def deadline(core: Core, item: HeldItem, now: datetime) -> datetime:
    """When an item's time is over, if it begins now: of several orders the shortest counts."""
    after: list[timedelta] = [order.expires_after or core.settings.expires_after for order in item.orders]
    return now + min(after)
