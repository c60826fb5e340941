"""Who is who: frozen values and look-ups in constant time, addresses compared folded.

Refuses nothing: :mod:`gateway.directory.loader` has done so. An address that nobody has is simply unknown.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime

from gateway.model.envelope import CITY_WIDE, Sender, fold

DIRECTOR_ROLES = frozenset({"director", "director-of-sender"})
"""Roles that depend on who sends: the director of the sender's own department."""
OWNER_ROLE = "list-owners"
"""The role that depends on where a message goes: the owners of the lists among its recipients."""
RESERVED_ROLES = DIRECTOR_ROLES | {OWNER_ROLE}
"""Roles that always exist and have no holders of their own."""


@dataclass(frozen=True, slots=True)
class Person:
    """One person: the address that is written to, and the others that reach the same person."""

    address: str
    name: str
    aliases: tuple[str, ...] = ()
    department: str = ""
    """Id of the department, ``""`` for none."""
    marks: frozenset[str] = frozenset()
    """E.g. ``contractor``."""


@dataclass(frozen=True, slots=True)
class Department:
    """One department and who directs it."""

    id: str
    name: str
    director: str = ""
    """The director's address, ``""`` when the post is vacant."""


@dataclass(frozen=True, slots=True)
class MailingList:
    """One distribution list."""

    id: str
    addresses: tuple[str, ...]
    city_wide: bool = False
    """It reaches the entire city: wdm/all-city, man/groups."""
    owners: tuple[str, ...] = ()
    approvers: tuple[str, ...] = ()
    """Roles that approve what is sent to it."""
    size: int = 0
    """How many people it reaches, 0: not said."""


@dataclass(frozen=True, slots=True)
class Deputy:
    """Who stands in for whom, on which days of the city's calendar."""

    person: str
    deputy: str
    first: date
    last: date
    """Included."""


@dataclass(frozen=True)
class Directory:
    """All of it. Build through :func:`gateway.directory.loader.load_directory`."""

    people: tuple[Person, ...] = ()
    departments: Mapping[str, Department] = field(default_factory=dict)
    roles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    lists: tuple[MailingList, ...] = ()
    standing_in: tuple[Deputy, ...] = ()
    _by_address: Mapping[str, Person] = field(init=False, repr=False, compare=False)
    _by_list_address: Mapping[str, tuple[str, ...]] = field(init=False, repr=False, compare=False)
    _by_list_id: Mapping[str, MailingList] = field(init=False, repr=False, compare=False)
    _owned: Mapping[str, tuple[str, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_address = {fold(a): p for p in self.people for a in (p.address, *p.aliases)}
        of_address: dict[str, tuple[str, ...]] = {}
        owned: dict[str, tuple[str, ...]] = {}
        for row in self.lists:
            tags = (row.id, CITY_WIDE) if row.city_wide else (row.id,)
            for address in row.addresses:
                of_address[fold(address)] = tags
            for owner in row.owners:
                person = by_address.get(fold(owner))
                for address in (person.address, *person.aliases) if person else (owner,):
                    owned[fold(address)] = (*owned.get(fold(address), ()), row.id)
        for name, value in (
            ("_by_address", by_address), ("_by_list_address", of_address), ("_owned", owned),
            ("_by_list_id", {row.id: row for row in self.lists}),
        ):  # fmt: skip
            object.__setattr__(self, name, value)

    def _mailbox(self, address: str) -> str:
        """The folded address, without a detail (``name+detail``, RFC 5233) unless the directory has it with the detail.

        The mail server takes the detail off: who writes as ``name+x``, or to ``list+x``, is no other than without.
        """
        folded = fold(address)
        if "+" not in folded or folded in self._by_address or folded in self._by_list_address:
            return folded
        local, at, domain = folded.rpartition("@")
        return local.partition("+")[0] + at + domain

    def person(self, address: str) -> Person | None:
        """Whom the address or alias reaches."""
        return self._by_address.get(self._mailbox(address))

    def list(self, id: str) -> MailingList | None:  # noqa: A002 the field's word, and the interface others call
        """The list of this id."""
        return self._by_list_id.get(id)

    def lists_of(self, address: str) -> tuple[str, ...]:
        """Ids of the lists that the address *is*; ``@city-wide`` (``CITY_WIDE``) follows that of a city-wide one."""
        return self._by_list_address.get(self._mailbox(address), ())

    def sender(self, address: str) -> Sender:
        """The reverse-path with marks, department and the lists that the address is or that the person owns."""
        folded = self._mailbox(address)
        person = self._by_address.get(folded)
        lists = tuple(dict.fromkeys((*self._by_list_address.get(folded, ()), *self._owned.get(folded, ()))))
        if person is None:
            return Sender(address, lists=lists)
        return Sender(address, person.marks, person.department, lists)

    def deputies(self, address: str, at: datetime) -> tuple[str, ...]:
        """Addresses of those who stand in for the person at that moment (aware; days are those of the local time).

        Not of those who stand in for a deputy: a role goes one step.
        """
        person = self.person(address)
        if person is None or not self.standing_in:
            return ()
        day = at.astimezone().date()
        rows = [row for row in self.standing_in if row.first <= day <= row.last]
        return tuple(dict.fromkeys(row.deputy for row in rows if self.person(row.person) is person))

    def holders(self, role: str, sender_address: str = "") -> tuple[str, ...]:
        """Addresses of the people who hold the role; none for an unknown role or a vacant post.

        ``director`` and ``director-of-sender`` are the director of the sender's own department.
        """
        if role not in DIRECTOR_ROLES:
            return self.roles.get(role, ())
        person = self.person(sender_address)
        department = self.departments.get(person.department) if person else None
        return (department.director,) if department and department.director else ()

    def roles_of(self, address: str) -> frozenset[str]:
        """The roles of whom the address reaches; ``director`` for who directs a department."""
        person = self.person(address)
        if person is None:
            return frozenset()
        names = {role for role, holders in self.roles.items() if any(self.person(h) is person for h in holders)}
        directs = any(self.person(d.director) is person for d in self.departments.values() if d.director)
        return frozenset(names | ({"director"} if directs else set()))

    @property
    def role_names(self) -> frozenset[str]:
        """Every role that a rule may name."""
        return RESERVED_ROLES | frozenset(self.roles)
