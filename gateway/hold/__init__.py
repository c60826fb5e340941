"""The durable store: held mail, decisions, outbox, exceptions and the gateway's own notices.

Refuses to say that something is stored before it would survive a crash.
"""

from gateway.hold.approval import Directory, Slot
from gateway.hold.decide import Outcome
from gateway.hold.exceptions import Exceptions
from gateway.hold.outbox import Deliver, Delivery, DeliveryResult, Outbox
from gateway.hold.settle import order_for_failure
from gateway.hold.states import Event, State
from gateway.hold.store import Hold, open_hold
from gateway.hold.values import (
    Acceptance,
    Body,
    Decision,
    HeldGroup,
    HeldItem,
    MessageFacts,
    OutboxKind,
    OutgoingGroup,
    QueueFacts,
    is_automatic,
)
from gateway.store.bodies import Damaged

__all__ = [
    "Acceptance",
    "Body",
    "Damaged",
    "Decision",
    "Deliver",
    "Delivery",
    "DeliveryResult",
    "Directory",
    "Event",
    "Exceptions",
    "HeldGroup",
    "HeldItem",
    "Hold",
    "MessageFacts",
    "Outbox",
    "OutboxKind",
    "Outcome",
    "OutgoingGroup",
    "QueueFacts",
    "Slot",
    "State",
    "is_automatic",
    "open_hold",
    "order_for_failure",
]
