"""Who may decide a held item, and when enough have: pure logic over the directory's answers.

Refuses the sender in every guise, and a person who would fill two roles.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.model.envelope import fold
from gateway.model.verdict import HoldOrder


class Person(Protocol):
    """Somebody whom the directory knows."""

    @property
    def address(self) -> str:
        """The main address; aliases lead to the same person."""


class MailingList(Protocol):
    """A list that the directory knows."""

    @property
    def size(self) -> int:
        """How many people it reaches, 0: not said."""


class Directory(Protocol):
    """What this room asks of the directory."""

    def holders(self, role: str, sender_address: str) -> tuple[str, ...]:
        """Addresses of the people who hold the role with regard to this sender (its own Director …)."""

    def person(self, address: str) -> Person | None:
        """Whom an address or alias reaches."""

    def list(self, id: str) -> MailingList | None:  # noqa: A002 - the directory's own signature
        """The list of this id."""


def identity(directory: Directory, address: str) -> str:
    """The one form in which a person is compared and recorded: the folded main address; unknown: the folded address.

    A tag (``name+tag@domain``, RFC 5233) that the directory does not list as an alias leads to ``name@domain``.
    """
    person = directory.person(address)
    local, at, domain = address.rpartition("@")
    if person is None and "+" in local:
        address = local.partition("+")[0] + at + domain
        person = directory.person(address)
    return fold(person.address if person is not None else address)


@dataclass(frozen=True, slots=True)
class Slot:
    """One approval that is needed, and who can give it."""

    role: str
    people: frozenset[str]
    """Identities, without the sender's."""
    fallback: bool = False
    """True when the fallback role had to be asked, because too few hold the role."""


def slots(
    orders: Iterable[HoldOrder], sender: str, authors: Sequence[str], directory: Directory, fallback_role: str
) -> tuple[Slot, ...]:
    """The approvals that an item needs: every role of every order once, in the order in which they are named.

    A role that nobody (but the sender) holds goes to ``fallback_role``; so do all when there are not enough distinct
    people to fill them. An order without roles asks for ``fallback_role``.
    """
    roles = dict.fromkeys(role for order in orders for role in order.roles or (fallback_role,))
    barred = frozenset(identity(directory, address) for address in (sender, *authors) if address)

    def people(role: str) -> frozenset[str]:
        return frozenset(identity(directory, address) for address in directory.holders(role, sender)) - barred

    spare = people(fallback_role)
    asked = tuple(Slot(role, found) if (found := people(role)) else Slot(role, spare, fallback=True) for role in roles)
    everyone = {person: frozenset(s.role for s in asked if person in s.people) for s in asked for person in s.people}
    if len(assign([s.role for s in asked], everyone)) < len(asked):
        return tuple(Slot(s.role, s.people | spare, fallback=True) for s in asked)
    return asked


def assign(roles: Sequence[str], offers: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Role -> person, as many roles as can be filled with each person filling one (maximum matching, Kuhn).

    ``offers``: person -> roles that this person can fill. Earlier people are not displaced by later ones, they may
    only be moved to another role.
    """
    filled: dict[str, str] = {}
    wanted = set(roles)

    def place(person: str, tried: set[str]) -> bool:
        for role in sorted(wanted.intersection(offers[person]) - tried):
            tried.add(role)
            if role not in filled or place(filled[role], tried):
                filled[role] = person
                return True
        return False

    for person in offers:
        place(person, set())
    return filled
