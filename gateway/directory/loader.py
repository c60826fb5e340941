"""Reads ``directory.yaml`` into a :class:`~gateway.directory.directory.Directory`.

Refuses, all at once and each with file, line and column: unknown keys, an address that two entries claim, a director,
owner, deputy or holder of a role who is not among the people, a department or a role that does not exist, a deputy
whose time ends before it begins.
"""

import re
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from gateway.directory.directory import (
    OWNER_ROLE,
    RESERVED_ROLES,
    Department,
    Deputy,
    Directory,
    MailingList,
    Person,
)
from gateway.errors import ConfigError, ConfigErrors
from gateway.model.envelope import fold
from gateway.source import Document, Path_, read_yaml, validate

_ADDRESS = re.compile(r"[^\s@<>]+@[^\s@<>]+\Z")


def _address(value: str) -> str:
    if not _ADDRESS.match(value):
        raise ValueError("is not an address like clerk@city.example")
    return value


def _day(value: object) -> date:
    if isinstance(value, date):
        return value
    try:
        return date.fromisoformat(str(value))
    except ValueError:
        raise ValueError("is not a day like 2026-12-24") from None


def _some(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value:
        raise ValueError("needs at least one address")
    return value


Address = Annotated[str, AfterValidator(_address)]
Day = Annotated[date, BeforeValidator(_day)]
Id = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$")]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PersonEntry(_Strict):
    """One of ``people``."""

    address: Address
    name: Annotated[str, Field(min_length=1)]
    aliases: tuple[Address, ...] = ()
    department: str = ""
    marks: tuple[Id, ...] = ()


class DepartmentEntry(_Strict):
    """One of ``departments``."""

    id: Id
    name: Annotated[str, Field(min_length=1)]
    director: str = ""


class ListEntry(_Strict):
    """One of ``lists``."""

    id: Id
    addresses: Annotated[tuple[Address, ...], AfterValidator(_some)]
    city_wide: bool = False
    owners: tuple[Address, ...] = ()
    approvers: tuple[Id, ...] = ()
    size: Annotated[int, Field(ge=0)] = 0


class DeputyEntry(_Strict):
    """One of ``deputies``."""

    person: Address
    deputy: Address
    first: Annotated[Day, Field(alias="from")]
    last: Annotated[Day, Field(alias="until")]


class DirectoryFile(_Strict):
    """The whole file."""

    people: tuple[PersonEntry, ...] = ()
    departments: tuple[DepartmentEntry, ...] = ()
    roles: dict[Id, tuple[Address, ...]] = {}
    lists: tuple[ListEntry, ...] = ()
    deputies: tuple[DeputyEntry, ...] = ()


def load_directory(path: Path) -> Directory:
    """Read and check the file. Raises :class:`ConfigErrors`."""
    document = read_yaml(path)
    spec = validate(document, DirectoryFile)
    errors = [*_twice(spec, document), *_nobody(spec, document), *_unknown(spec, document), *_standing(spec, document)]
    if errors:
        raise ConfigErrors(sorted(errors, key=lambda e: (e.line, e.column)))
    return Directory(
        people=tuple(Person(p.address, p.name, p.aliases, p.department, frozenset(p.marks)) for p in spec.people),
        departments={d.id: Department(d.id, d.name, d.director) for d in spec.departments},
        roles=dict(spec.roles),
        lists=tuple(MailingList(r.id, r.addresses, r.city_wide, r.owners, r.approvers, r.size) for r in spec.lists),
        standing_in=tuple(Deputy(d.person, d.deputy, d.first, d.last) for d in spec.deputies),
    )


def _twice(spec: DirectoryFile, document: Document) -> Iterable[ConfigError]:
    claims: list[tuple[str, Path_]] = []
    for n, person in enumerate(spec.people):
        claims.append((fold(person.address), ("people", n, "address")))
        claims.extend((fold(a), ("people", n, "aliases", m)) for m, a in enumerate(person.aliases))
    for n, row in enumerate(spec.lists):
        claims.extend((fold(a), ("lists", n, "addresses", m)) for m, a in enumerate(row.addresses))
    yield from _repeated(claims, "address", document)
    yield from _repeated([(d.id, ("departments", n, "id")) for n, d in enumerate(spec.departments)], "id", document)
    yield from _repeated([(r.id, ("lists", n, "id")) for n, r in enumerate(spec.lists)], "id", document)


def _repeated(claims: Iterable[tuple[str, Path_]], what: str, document: Document) -> Iterable[ConfigError]:
    first: dict[str, Path_] = {}
    for value, path in claims:
        if value in first:
            other = document.error(first[value], "")
            yield document.error(path, f"{what} {value} is used already at {other.file}:{other.line}:{other.column}")
        else:
            first[value] = path


def _nobody(spec: DirectoryFile, document: Document) -> Iterable[ConfigError]:
    people = {fold(a) for p in spec.people for a in (p.address, *p.aliases)}
    named: list[tuple[str, Path_]] = [
        (d.director, ("departments", n, "director")) for n, d in enumerate(spec.departments) if d.director
    ]
    named.extend((a, ("roles", role, m)) for role, row in spec.roles.items() for m, a in enumerate(row))
    named.extend((a, ("lists", n, "owners", m)) for n, row in enumerate(spec.lists) for m, a in enumerate(row.owners))
    named.extend((d.person, ("deputies", n, "person")) for n, d in enumerate(spec.deputies))
    named.extend((d.deputy, ("deputies", n, "deputy")) for n, d in enumerate(spec.deputies))
    for address, path in named:
        if fold(address) not in people:
            yield document.error(path, f"{address} is not one of the people")


def _unknown(spec: DirectoryFile, document: Document) -> Iterable[ConfigError]:
    departments = {d.id for d in spec.departments}
    for n, person in enumerate(spec.people):
        if person.department and person.department not in departments:
            yield document.error(("people", n, "department"), f"no department «{person.department}»")
    for role in spec.roles:
        if role in RESERVED_ROLES:
            who = (
                "the owners of the addressed lists" if role == OWNER_ROLE else "the director of the sender's department"
            )
            yield document.error(("roles", role), f"the role {role} is always {who}; it has no holders of its own")
    roles = RESERVED_ROLES | set(spec.roles)
    for n, row in enumerate(spec.lists):
        for m, role in enumerate(row.approvers):
            if role not in roles:
                yield document.error(("lists", n, "approvers", m), f"no role «{role}»")


def _standing(spec: DirectoryFile, document: Document) -> Iterable[ConfigError]:
    """A time that ends before it begins, and somebody who would stand in for themselves."""
    main = {fold(a): fold(p.address) for p in spec.people for a in (p.address, *p.aliases)}
    for n, row in enumerate(spec.deputies):
        if row.last < row.first:
            yield document.error(("deputies", n, "until"), f"ends on {row.last}, before it begins on {row.first}")
        person, deputy = fold(row.person), fold(row.deputy)
        if main.get(person, person) == main.get(deputy, deputy):
            yield document.error(("deputies", n, "deputy"), f"{row.deputy} cannot stand in for the same person")
