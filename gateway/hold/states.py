"""The life of a held item as one table of transitions.

Refuses every pair of state and event that is not in the table, with :class:`Impossible`.
"""

from enum import StrEnum


class State(StrEnum):
    """Where a held item stands."""

    ATTESTING = "attesting"
    """Waits for its sender to confirm what the rule asks; nobody else is asked before."""
    HELD = "held"
    """Waits for people."""
    APPROVED = "approved"
    """All have approved; its outbox row is committed, delivery has not begun."""
    RELEASING = "releasing"
    """The outbox is delivering, perhaps not for the first time."""
    RELEASED = "released"
    """The next hop took it for at least one recipient."""
    REFUSED = "refused"
    """The next hop refused all recipients for good, or never answered; the sender was told."""
    REJECTED = "rejected"
    """A person said no; the return to the sender, where one is allowed, is in the outbox."""
    EXPIRED = "expired"
    """Nobody decided in time; the return to the sender, where one is allowed, is in the outbox."""
    RETURNED = "returned"
    """The sender has the message back, with the reason."""
    WITHDRAWN = "withdrawn"
    """Its sender took it back before everybody had approved."""
    DAMAGED = "damaged"
    """The stored body is not what was accepted. Never delivered; can be rejected, and expires like any other."""


class Event(StrEnum):
    """What can happen to a held item."""

    APPROVE = "approve"
    """One of several approvals; more are needed."""
    ATTEST = "attest"
    """The sender confirmed what the rule asks; the approvers are asked now."""
    COMPLETE = "complete"
    """The last approval that was needed."""
    REJECT = "reject"
    EXPIRE = "expire"
    WITHDRAW = "withdraw"
    """The sender takes it back."""
    REMIND = "remind"
    """The approvers were asked once more."""
    ESCALATE = "escalate"
    """Further roles were asked, and can decide from now on."""
    SPLIT = "split"
    """Some recipients were parted from it: they are an item of their own from now on."""
    START = "start"
    """The outbox claimed the release for the first time."""
    DELIVERED = "delivered"
    REFUSE = "refuse"
    HOLD_AGAIN = "hold-again"
    """A transform could not be done at release."""
    RETURN = "return"
    """The return notice reached the sender's mail server."""
    DAMAGE = "damage"
    VIEW = "view"
    """Somebody who may read it read the body."""
    COMMENT = "comment"
    """A word without a decision."""


TABLE: dict[tuple[State, Event], State] = {
    (State.ATTESTING, Event.ATTEST): State.HELD,
    (State.ATTESTING, Event.EXPIRE): State.EXPIRED,
    (State.ATTESTING, Event.WITHDRAW): State.WITHDRAWN,
    (State.ATTESTING, Event.DAMAGE): State.DAMAGED,
    (State.HELD, Event.APPROVE): State.HELD,
    (State.HELD, Event.COMPLETE): State.APPROVED,
    (State.HELD, Event.REJECT): State.REJECTED,
    (State.HELD, Event.EXPIRE): State.EXPIRED,
    (State.HELD, Event.WITHDRAW): State.WITHDRAWN,
    (State.HELD, Event.REMIND): State.HELD,
    (State.HELD, Event.ESCALATE): State.HELD,
    (State.HELD, Event.SPLIT): State.HELD,
    (State.HELD, Event.DAMAGE): State.DAMAGED,
    (State.APPROVED, Event.START): State.RELEASING,
    (State.APPROVED, Event.DAMAGE): State.DAMAGED,
    (State.RELEASING, Event.DELIVERED): State.RELEASED,
    (State.RELEASING, Event.REFUSE): State.REFUSED,
    (State.RELEASING, Event.HOLD_AGAIN): State.HELD,
    (State.RELEASING, Event.DAMAGE): State.DAMAGED,
    (State.REJECTED, Event.RETURN): State.RETURNED,
    (State.EXPIRED, Event.RETURN): State.RETURNED,
    (State.DAMAGED, Event.REJECT): State.REJECTED,
    (State.DAMAGED, Event.EXPIRE): State.EXPIRED,
    (State.DAMAGED, Event.WITHDRAW): State.WITHDRAWN,
}
TABLE |= {(state, Event.VIEW): state for state in State if state is not State.DAMAGED}
TABLE |= {(state, Event.COMMENT): state for state in State}

OPEN = frozenset({State.ATTESTING, State.HELD, State.APPROVED, State.RELEASING, State.DAMAGED})
"""States in which the message is still ours to answer for."""


class Impossible(Exception):
    """The table has no such transition. ``state`` is where the item stood."""

    def __init__(self, state: State, event: Event) -> None:
        super().__init__(f"a {state} item cannot take «{event}»")
        self.state, self.event = state, event


def step(state: State, event: Event) -> State:
    """The state after ``event``. Raises :class:`Impossible`."""
    try:
        return TABLE[state, event]
    except KeyError:
        raise Impossible(state, event) from None
