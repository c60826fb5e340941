"""Reads a folder of rules: one YAML file a rule, in any depth of category folders; ``types/`` is not rules.

Refuses, all at once and each with file, line and column: what the schema refuses, one id in two files, an information
type or legend that nobody defines, one legend or banner id with two wordings, a placeholder without a value. Reads
files; knows no clock and no network.
"""

import difflib
import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from gateway.errors import ConfigError, ConfigErrors
from gateway.model.finding import Published
from gateway.model.verdict import Transform, TransformKind
from gateway.policy.compiled import Rule, compile_rule
from gateway.policy.profile import Profile
from gateway.policy.ruleset import WRAPPERS, RuleSet
from gateway.policy.schema import RuleFile
from gateway.policy.wordlists import read_words
from gateway.source import Document, Path_, read_yaml, validate

DEFAULT_VARIABLES: Mapping[str, str] = {
    "city_name": "City of Example",
    "transfer_service": "https://files.city.example",
}
"""What texts may name, with the values of the settings' defaults (``notices.city_name``, ``.transfer_service``)."""

_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
_TEXTS = {"text", "reason", "tell_sender", "value", "lines", "wordings"}
_ROLES = (("approvers", ""), ("all", "approvers"), ("any", "approvers"), ("escalate_to", ""), ("roles", ""))
"""Keys under which roles stand, and below which other key."""
_Written = tuple[RuleFile, Document]


def load_rules(
    folder: Path,
    known_types: frozenset[str] | None = None,
    variables: Mapping[str, str] = DEFAULT_VARIABLES,
    known_roles: frozenset[str] | None = None,
    domains: tuple[str, ...] = (),
    profile: Path | None = None,
) -> RuleSet:
    """Load and compile every ``*.yaml`` below ``folder`` but ``types/``, in the order of their paths.

    ``known_types``: ids that ``content.types`` may name, None: not checked. ``variables``: values of ``{placeholders}``
    in texts and lines; ``{city_name_capitals}`` and the like are made from each. ``known_roles``: roles that
    ``hold`` and ``notify`` may name, None: not checked. ``domains``: the city's own, for links. ``profile``: what a
    city wants otherwise, None: nothing. Raises :class:`ConfigErrors` with all problems.
    """
    if not folder.is_dir():
        raise ConfigErrors([ConfigError("is not a folder of rules", str(folder))])
    known = _Known(known_types, known_roles, _with_capitals(variables))
    errors: list[ConfigError] = []
    city = Profile(profile)
    files = _files(folder)
    read, said = _read(files, city, errors)
    errors.extend(_duplicates(read))
    errors.extend(city.unknown([spec.id for spec, _ in read]))
    for _, document in (*read, *said):
        errors.extend(_unknown(document, known))
    documents = [document for _, document in read]
    published = _published(folder, documents, errors)
    wrappers = _wrappers(folder, errors)
    if errors:
        raise ConfigErrors(errors)
    rules = tuple(
        compile_rule(spec, document, place, lambda text: fill(text, known.values))
        for place, (spec, document) in enumerate(read)
    )
    errors.extend(_wordings(rules, documents))
    if errors:
        raise ConfigErrors(errors)
    return RuleSet(rules, _digest(folder, files, city, published, wrappers), published, domains, wrappers)


class _Known(NamedTuple):
    """What rules may name. None: not checked."""

    types: frozenset[str] | None
    roles: frozenset[str] | None
    values: Mapping[str, str]
    """Of placeholders."""


def _with_capitals(variables: Mapping[str, str]) -> Mapping[str, str]:
    return {**variables, **{f"{name}_capitals": text.upper() for name, text in variables.items()}}


def fill(text: str, values: Mapping[str, str]) -> str:
    """Resolve ``{placeholders}``; all must be known."""
    return _PLACEHOLDER.sub(lambda match: values[match[1]], text)


def _read(files: Iterable[Path], city: Profile, errors: list[ConfigError]) -> tuple[list[_Written], list[_Written]]:
    """All rules as the city wants them, and of those that it changes what it said, at its places in the profile."""
    read, said = list[_Written](), list[_Written]()
    for path in files:
        try:
            document = read_yaml(path)
            spec = validate(document, RuleFile)
            adapted = city.adapt(document, spec)
            if adapted is not document:
                spec = validate(adapted, RuleFile)
                said.append((spec, city.said(adapted, spec)))
            read.append((spec, document))
        except ConfigErrors as error:
            errors.extend(error.errors)
    return read, said


def _digest(
    folder: Path, files: Iterable[Path], city: Profile, published: Iterable[Published], wrappers: Iterable[str]
) -> str:
    """SHA-256 (hex) of all that these rules were made of."""
    digest = hashlib.sha256(city.octets)
    for path in files:
        digest.update(f"{path.relative_to(folder).as_posix()}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    lists = [(one.name, sorted(one.values)) for one in published]
    digest.update(repr(lists).encode() if lists else b"")
    digest.update("\n".join(wrappers).encode())
    return digest.hexdigest()


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*.yaml") if p.relative_to(folder).parts[0] != "types")


def _duplicates(read: Iterable[_Written]) -> Iterable[ConfigError]:
    first: dict[str, Document] = {}
    for spec, document in read:
        if spec.id in first:
            other = first[spec.id].error(("id",), "")
            yield document.error(("id",), f"id {spec.id} is used already at {other.file}:{other.line}:{other.column}")
        else:
            first[spec.id] = document


def _leaves(data: Any, path: Path_ = ()) -> Iterable[tuple[Path_, str]]:
    if isinstance(data, dict):
        for key, value in data.items():
            yield from _leaves(value, (*path, key))
    elif isinstance(data, list):
        for n, value in enumerate(data):
            yield from _leaves(value, (*path, n))
    elif isinstance(data, str):
        yield path, data


def _key(path: Path_) -> str:
    """The nearest key of a value, list indices left out."""
    return next((step for step in reversed(path) if isinstance(step, str)), "")


def _unknown(document: Document, known: _Known) -> Iterable[ConfigError]:
    """Types, roles and placeholders that nobody defines."""
    for key, within in (("types", ""), ("type", "near")):
        yield from _unknown_names(document, known.types, key, "information type", within)
    for key, within in _ROLES:
        yield from _unknown_names(document, known.roles, key, "role", within)
    yield from _placeholders(document, known.values)


def _unknown_names(
    document: Document, known: frozenset[str] | None, key: str, what: str, within: str
) -> Iterable[ConfigError]:
    if known is None:
        return
    for path, value in _leaves(document.data):
        if within and within not in path:
            continue
        if path[0] in ("when", "unless", "then") and _key(path) == key and value not in known:
            close = difflib.get_close_matches(value, sorted(known), n=1)
            hint = f", did you mean «{close[0]}»?" if close else ""
            yield document.error(path, f"{what} «{value}» is not known{hint}")


def _published(folder: Path, documents: Iterable[Document], errors: list[ConfigError]) -> tuple[Published, ...]:
    """The files that ``exclude: {published: …}`` names, below the folder of rules, each read once."""
    found: dict[str, Published] = {}
    for document in documents:
        for path, name in _leaves(document.data):
            if path[-2:] != ("exclude", "published") or path[0] not in ("when", "unless") or name in found:
                continue
            try:
                rows = read_words(folder / name, document.error(path, ""))
            except ConfigErrors as error:
                errors.extend(error.errors)
                continue
            values = frozenset("".join(c for c in row.casefold() if c.isalnum()) for row in rows)
            found[name] = Published(name, values)
    return tuple(found.values())


def _wrappers(folder: Path, errors: list[ConfigError]) -> tuple[str, ...]:
    """Hosts that wrap links of others; none when there is no such file."""
    path = folder / WRAPPERS
    if not path.exists():
        return ()
    try:
        return tuple(row.lower().removeprefix("*.") for row in read_words(path, ConfigError("", str(path))))
    except ConfigErrors as error:
        errors.extend(error.errors)
        return ()


def _placeholders(document: Document, values: Mapping[str, str]) -> Iterable[ConfigError]:
    for path, text in _leaves(document.data):
        if path[0] == "then" and _key(path) in _TEXTS:
            for name in _PLACEHOLDER.findall(text):
                if name not in values:
                    yield document.error(path, f"{{{name}}} has no value; known are {', '.join(sorted(values))}")


def _wordings(rules: Iterable[Rule], documents: list[Document]) -> Iterable[ConfigError]:
    """One id, one wording: else which of the two stands would depend on the order of files."""
    first: dict[tuple[TransformKind, str], tuple[Transform, Document]] = {}
    kinds = {TransformKind.LEGEND: "legend", TransformKind.BANNER: "banner"}
    for rule in rules:
        document = documents[rule.place]
        for transform in rule.transforms:
            if transform.kind not in kinds:
                continue
            kept, other = first.setdefault((transform.kind, transform.id), (transform, document))
            if kept.lines != transform.lines:
                key = kinds[transform.kind]
                where = other.error(("then", key, "lines"), "")
                message = f"{key} {transform.id} has other lines at {where.file}:{where.line}:{where.column}"
                yield document.error(("then", key, "lines"), message)
    legends = {id_ for kind, id_ in first if kind is TransformKind.LEGEND}
    for document in documents:
        for path, value in _leaves(document.data):
            if path[0] in ("when", "unless") and path[-2:] == ("legend", "present") and value not in legends:
                yield document.error(path, f"no rule puts a legend «{value}»")
