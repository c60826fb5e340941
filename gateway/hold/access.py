"""The one gate to the content of held mail: body, attachments, evidence.

Refuses everybody but the item's approvers of the moment and its sender; all others see metadata only. Whoever opens
content asks here, through :meth:`gateway.hold.decide.Desk.view`, which also records it. Pure: nothing is read here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from gateway.hold.approval import Directory, Slot, identity
from gateway.hold.states import State
from gateway.hold.values import HeldItem


class Ground(StrEnum):
    """Why somebody may read."""

    APPROVER = "approver"
    """Fills a role of the item now: holder, deputy, or asked because nobody decided."""
    SENDER = "sender"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Permission:
    """The gate's answer for one person and one item at one moment. True in a condition when content may be shown."""

    person: str
    """Identity: the main address, folded; ``""`` when nobody is named."""
    ground: Ground
    reason: str
    """One sentence for people, also when it is no."""

    def __bool__(self) -> bool:
        return self.ground is not Ground.NONE

    @property
    def allowed(self) -> bool:
        """Whether content may be shown."""
        return bool(self)


def may_read(viewer_address: str, item: HeldItem, slots: Sequence[Slot], directory: Directory) -> Permission:
    """Whether this person may see the item's content now. ``slots``: the item's, as of now (``Reading.slots``)."""
    if not viewer_address:
        return Permission("", Ground.NONE, "Content is for the item's approvers and its sender: say who you are.")
    person = identity(directory, viewer_address)
    if is_sender(person, item, directory):
        return Permission(person, Ground.SENDER, f"{viewer_address} sent this message.")
    roles = [slot.role for slot in slots if person in slot.people]
    if not roles:
        return Permission(person, Ground.NONE, f"{viewer_address} is no approver of {item.id} and did not send it.")
    if item.state is State.ATTESTING:
        text = f"{item.id} still waits for its sender's confirmation; its approvers are asked after that."
        return Permission(person, Ground.NONE, text)
    because = {who: words for slot in slots for who, words in slot.why}.get(person, "")
    words = f"{viewer_address} decides as {', '.join(roles)}"
    return Permission(person, Ground.APPROVER, f"{words} ({because})." if because else f"{words}.")


def is_sender(person: str, item: HeldItem, directory: Directory) -> bool:
    """Whether an identity is that of the reverse-path. Who stands in ``From`` alone has not sent it."""
    path = item.message.reverse_path
    return bool(path) and person == identity(directory, path)
