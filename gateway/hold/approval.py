"""Who may decide a held item, and when enough have: pure logic over the directory's answers.

Refuses the sender in every guise (as holder, as deputy, and through a deputy of the sender's own), a person who would
fill two roles, and one person's right that would fill two: by that person and by a deputy, or by two deputies.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import combinations, product
from typing import Protocol

from gateway.model.envelope import fold
from gateway.model.verdict import HoldOrder
from gateway.wire.command import unquoted

LIST_OWNERS = "list-owners"
"""The role that the owners of the addressed lists hold, for each list at least one of them."""


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

    @property
    def owners(self) -> tuple[str, ...]:
        """Addresses of the people who are responsible for it."""


class Directory(Protocol):
    """What this room asks of the directory."""

    def holders(self, role: str, sender_address: str) -> tuple[str, ...]:
        """Addresses of the people who hold the role with regard to this sender (its own Director …)."""

    def person(self, address: str) -> Person | None:
        """Whom an address or alias reaches."""

    def list(self, id: str) -> MailingList | None:  # noqa: A002 - the directory's own signature
        """The list of this id."""

    def deputies(self, address: str, at: datetime) -> tuple[str, ...]:
        """Addresses of those who stand in for the person on that day."""


def identity(directory: Directory, address: str) -> str:
    """The one form in which a person is compared and recorded: the folded main address; unknown: the folded address.

    A tag (``name+tag@domain``, RFC 5233) that the directory does not list as an alias leads to ``name@domain``; quotes
    that change nothing (RFC 5322 section 3.4.1) and a dot behind the domain are left out.
    """
    local, at, domain = address.rpartition("@")
    local, domain = unquoted(local), domain.rstrip(".")
    address = local + at + domain
    person = directory.person(address)
    if person is None and "+" in local:
        address = local.partition("+")[0] + at + domain
        person = directory.person(address)
    return fold(person.address if person is not None else address)


@dataclass(frozen=True, slots=True)
class Slot:
    """One approval that can be given, and who can give it."""

    role: str
    people: frozenset[str]
    """Identities, without the sender's."""
    fallback: bool = False
    """True when the fallback role had to be asked, because too few hold the role."""
    why: tuple[tuple[str, str], ...] = ()
    """Of those who do not hold the role themselves: person, and why they are asked (``deputy of …``)."""
    rights: frozenset[tuple[str, str]] = frozenset()
    """Person, and in whose right; who is not named here acts in their own."""

    def rights_of(self, person: str) -> frozenset[str]:
        """In whose right this person fills the role: their own, or that of each whom they stand in for."""
        return frozenset(whose for who, whose in self.rights if who == person) or frozenset({person})


Offer = Iterable[str] | Mapping[str, frozenset[str]]
"""The roles that an approval counts for, or these with the people in whose right it does."""


@dataclass(frozen=True, slots=True)
class Choice:
    """So many of these roles, each through another person."""

    roles: tuple[str, ...]
    count: int


@dataclass(frozen=True, slots=True)
class Needs:
    """All that an item needs: every required role, and of each choice so many."""

    slots: tuple[Slot, ...]
    """Every role that counts, once, in the order in which they are named."""
    required: tuple[str, ...]
    choices: tuple[Choice, ...] = ()

    @property
    def people(self) -> frozenset[str]:
        """Everybody who can decide."""
        return frozenset(person for slot in self.slots for person in slot.people)

    @property
    def vacant(self) -> tuple[str, ...]:
        """Roles for which the fallback role is asked."""
        return tuple(slot.role for slot in self.slots if slot.fallback)

    @property
    def count(self) -> int:
        """How many different people must approve."""
        return len(self.required) + sum(choice.count for choice in self.choices)

    @property
    def possible(self) -> bool:
        """Whether the people whom the directory names could approve it at all."""
        return not self.missing({p: [s.role for s in self.slots if p in s.people] for p in sorted(self.people)})

    def roles_of(self, person: str) -> tuple[str, ...]:
        """The roles that a person can fill."""
        return tuple(slot.role for slot in self.slots if person in slot.people)

    def rights_of(self, person: str) -> dict[str, frozenset[str]]:
        """The roles that a person can fill, and in whose right."""
        return {slot.role: slot.rights_of(person) for slot in self.slots if person in slot.people}

    def missing(self, offers: Mapping[str, Offer]) -> tuple[Slot, ...]:
        """What stays open when these people have approved: the fewest that can be.

        ``offers``: person -> the roles that count for it; with the rights when they are not those of today.
        A choice that is not made yet is one slot for each approval, with the roles that are left and all their people.
        """
        by_role = {slot.role: slot for slot in self.slots}
        whole = {person: self._rights(person, offer) for person, offer in offers.items()}
        best: list[Slot] | None = None
        for picked in product(*(combinations(choice.roles, choice.count) for choice in self.choices)):
            wanted = [*self.required, *(role for roles in picked for role in roles)]
            filled = fill_places(wanted, whole)
            left = [by_role[role] for role in self.required if role not in filled]
            for choice, roles in zip(self.choices, picked, strict=True):
                taken = [role for role in roles if role in filled]
                left += [_either(choice, taken, by_role)] * (len(roles) - len(taken))
            if best is None or len(left) < len(best):
                best = left
        return self.slots if best is None else tuple(best)  # a choice that cannot be made is never a made one

    def helps(self, person: str, offers: Mapping[str, Offer]) -> bool:
        """Whether this person's approval would leave less open than these do."""
        left = self.missing(offers)
        if not any(person in slot.people for slot in left):
            return False
        if not any(slot.rights for slot in self.slots):
            return True  # nobody acts in another's right: an open role that is this person's can be filled
        more: dict[str, Offer] = {**offers, person: self.rights_of(person)}
        return len(self.missing(more)) < len(left)

    def _rights(self, person: str, offer: Offer) -> Mapping[str, frozenset[str]]:
        if isinstance(offer, Mapping):
            return offer
        today = self.rights_of(person)
        return {role: today.get(role, frozenset({person})) for role in offer}


def _either(choice: Choice, taken: Sequence[str], by_role: Mapping[str, Slot]) -> Slot:
    open_ = [by_role[role] for role in choice.roles if role not in taken]
    return Slot(
        " or ".join(slot.role for slot in open_),
        frozenset[str]().union(*(slot.people for slot in open_)),
        any(slot.fallback for slot in open_),
        tuple(dict.fromkeys(why for slot in open_ for why in slot.why)),
    )


@dataclass(frozen=True, slots=True)
class Question:
    """All that decides who is asked, beside the directory and the day."""

    orders: tuple[HoldOrder, ...]
    sender: str
    authors: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    """Ids of the lists that it goes to."""
    escalated: frozenset[str] = frozenset()
    """Rules whose escalation has come."""


class Resolver:
    """Answers one question on one day."""

    def __init__(self, question: Question, directory: Directory, fallback_role: str, at: datetime) -> None:
        self._question, self._directory, self._fallback, self._at = question, directory, fallback_role, at
        sent = (question.sender, *question.authors)
        self._barred = frozenset(identity(directory, address) for address in sent if address)

    def needs(self) -> Needs:
        """Every role of every order once; a role that two orders name is filled once for both.

        A role that nobody (but the sender) holds goes to the fallback role, unless a choice has enough others; so do
        all when there are not enough distinct people. An order without roles asks for the fallback role.
        """
        named = {order: self._roles(order) for order in self._question.orders}
        required = dict.fromkeys(
            role for order, roles in named.items() if order.need is None or order.need >= len(roles) for role in roles
        )
        choices: dict[tuple[str, ...], int] = {}
        for order, roles in named.items():
            free = tuple(role for role in roles if role not in required)
            left = (len(roles) if order.need is None else order.need) - (len(roles) - len(free))
            if left > 0:
                choices[free] = max(left, choices.get(free, 0))
        roles = tuple(dict.fromkeys([*required, *(role for free in choices for role in free)]))
        needs = Needs(
            tuple(self._slot(role) for role in roles),
            tuple(required),
            tuple(Choice(free, count) for free, count in choices.items()),
        )
        return self._escalated(self._filled(needs), named)

    def _roles(self, order: HoldOrder) -> tuple[str, ...]:
        """An order's roles, list owners as one role for each list that has owners of its own."""
        roles: list[str] = []
        for role in order.roles or (self._fallback,):
            roles += self._owner_roles() if role == LIST_OWNERS else [role]
        return tuple(dict.fromkeys(roles))

    def _owner_roles(self) -> list[str]:
        """Lists that share an owner are one role, which that owner can fill for all of them."""
        shared: list[tuple[list[str], frozenset[str]]] = []
        for name in self._question.lists:
            owners = frozenset(self._owners(name))
            for number, (names, common) in enumerate(shared):
                if owners & common:
                    shared[number] = ([*names, name], owners & common)
                    break
            else:
                shared.append(([name], owners))
        return [f"{LIST_OWNERS}:{'+'.join(names)}" for names, _ in shared] or [LIST_OWNERS]

    def _owners(self, name: str) -> tuple[str, ...]:
        found = self._directory.list(name)
        return tuple(identity(self._directory, owner) for owner in found.owners) if found is not None else ()

    def _holders(self, role: str) -> tuple[str, ...]:
        if role.startswith(f"{LIST_OWNERS}:"):
            every = [frozenset(self._owners(name)) for name in role.partition(":")[2].split("+")]
            return tuple(sorted(frozenset[str].intersection(*every)))
        holders = self._directory.holders(role, self._question.sender)
        return tuple(identity(self._directory, address) for address in holders)

    def _slot(self, role: str) -> Slot:
        """Those who hold the role, and who stands in for them today; nobody stands in for the sender."""
        holders = frozenset(self._holders(role)) - self._barred
        standing = [
            (deputy, holder)
            for holder in sorted(holders)
            for deputy in (identity(self._directory, a) for a in self._directory.deputies(holder, self._at))
            if deputy not in self._barred and deputy not in holders
        ]
        why = tuple((deputy, f"deputy of {holder}") for deputy, holder in standing)
        return Slot(role, holders | {deputy for deputy, _ in standing}, why=why, rights=frozenset(standing))

    def _filled(self, needs: Needs) -> Needs:
        if needs.possible and all(slot.people for slot in needs.slots if slot.role in needs.required):
            kept = tuple(slot for slot in needs.slots if slot.people)
            choices = tuple(
                replace(choice, roles=tuple(role for role in choice.roles if any(s.role == role for s in kept)))
                for choice in needs.choices
            )
            return Needs(kept, needs.required, choices)
        spare = self._slot(self._fallback)
        asked = replace(needs, slots=tuple(slot if slot.people else _with(slot, spare) for slot in needs.slots))
        if asked.possible:
            return asked
        return replace(asked, slots=tuple(_with(slot, spare) for slot in needs.slots))

    def _escalated(self, needs: Needs, named: Mapping[HoldOrder, tuple[str, ...]]) -> Needs:
        """Once its time has come, an order's roles can be filled by who holds the roles that it names for that."""
        slots = {slot.role: slot for slot in needs.slots}
        for order, roles in named.items():
            if order.rule not in self._question.escalated:
                continue
            for role in order.escalate_to:
                more = self._slot(role)
                for place in roles:
                    if place in slots:
                        slots[place] = _more(slots[place], more, f"asked as {role}, because nobody decided")
        return replace(needs, slots=tuple(slots.values()))


def _with(slot: Slot, spare: Slot) -> Slot:
    why = tuple(
        (p, f"asked as {spare.role}, because too few hold the role") for p in sorted(spare.people - slot.people)
    )
    return Slot(slot.role, slot.people | spare.people, fallback=True, why=slot.why + why, rights=_joined(slot, spare))


def _more(slot: Slot, other: Slot, words: str) -> Slot:
    why = tuple((person, words) for person in sorted(other.people - slot.people))
    return replace(slot, people=slot.people | other.people, why=slot.why + why, rights=_joined(slot, other))


def _joined(*slots: Slot) -> frozenset[tuple[str, str]]:
    return frozenset((who, whose) for slot in slots for who in slot.people for whose in slot.rights_of(who))


def covers(given: str, role: str) -> bool:
    """Whether an approval that was given as ``given`` counts for ``role``: who answered for lists a and b did for a."""
    if given == role:
        return True
    lists = f"{LIST_OWNERS}:"
    if not given.startswith(lists) or not role.startswith(lists):
        return False
    return set(role.removeprefix(lists).split("+")) <= set(given.removeprefix(lists).split("+"))


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


def fill_places(roles: Sequence[str], offers: Mapping[str, Mapping[str, frozenset[str]]]) -> dict[str, str]:
    """Role -> person, as many as can be, with each person and each person's right filling one.

    ``offers``: person -> role -> in whose right. As :func:`assign`, unless somebody fills a role in another's right.
    """
    filled = assign(roles, offers)
    if all(offers[person][role] == {person} for role, person in filled.items()):
        return filled
    wanted = list(dict.fromkeys(roles))
    some = _distinct(wanted, offers)
    ways = {role: [(p, r) for p in some for r in sorted(offers[p].get(role, ()))] for role in wanted}
    return _most(sorted(wanted, key=lambda role: (len(ways[role]), role)), ways, {}, frozenset(), {})


def _most(
    roles: Sequence[str],
    ways: Mapping[str, Sequence[tuple[str, str]]],
    filled: dict[str, str],
    used: frozenset[str],
    best: dict[str, str],
) -> dict[str, str]:
    """The largest set of places that can be filled beside ``filled``; ``used`` are the rights that are taken."""
    if len(filled) + len(roles) <= len(best):
        return best
    if not roles:
        return filled
    first, rest = roles[0], roles[1:]
    for person, right in ways[first]:
        if person not in filled.values() and right not in used:
            best = _most(rest, ways, {**filled, first: person}, used | {right}, best)
    return _most(rest, ways, filled, used, best)


def _distinct(roles: Sequence[str], offers: Mapping[str, Mapping[str, frozenset[str]]]) -> list[str]:
    """Of people who can do the very same, in their own right or in the same others', as many as can be needed."""
    lent = {right for person, mine in offers.items() for rights in mine.values() for right in rights - {person}}
    alike: dict[object, int] = {}
    kept = []
    for person, mine in offers.items():
        own = all(rights == {person} for rights in mine.values()) and person not in lent
        key = frozenset((role, None if own else mine[role]) for role in roles if role in mine)
        alike[key] = alike.get(key, 0) + 1
        if alike[key] <= (len(roles) if own else len(frozenset().union(*mine.values()))):
            kept.append(person)
    return kept
