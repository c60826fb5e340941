"""Information types: what confidential content looks like, read from ``rules/types/*.yaml``, one type a file.

Values only: :mod:`gateway.checks` compiles and runs them. Refuses an id that differs from the file's name, a pattern
that is no regular expression or can match nothing, an unknown validator, a companion that nobody defines or types that
need each other, a word list that cannot be read, and a type without a case that fires and a near miss.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

import re2
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from gateway.errors import ConfigError, ConfigErrors
from gateway.model.finding import Confidence
from gateway.policy.namelists import NameLists
from gateway.policy.shapes import FileBelow
from gateway.policy.wordlists import read_words
from gateway.source import Document, read_yaml, validate

VALIDATORS = frozenset(
    {
        "us-ssn", "us-ssn-reversed", "us-itin", "us-ein", "us-rtn", "payment-card", "payment-card-reversed", "iban",
        "luhn", "npi", "date", "ip-address", "mixed", "strong", "secret",
    }
)  # fmt: skip
"""Exact checks that a pattern may name (``docs/rules.md`` says what each knows)."""
Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Pattern:
    """One written form of the type."""

    regex: str
    """ASCII, in the dialect that Python and Hyperscan share: no look-around, no back references. Matched against the
    decoded text with its typographic variants already made plain (full-width digits, odd dashes and spaces)."""
    confidence: Confidence = Confidence.LOW
    """How sure a match is that stands alone."""
    validator: str = ""
    """One of :data:`VALIDATORS`, ``""``: none."""
    needs_keyword: bool = False
    """True: counts only with a keyword near by."""
    edges: str = "word"
    """What may not touch a match. ``word``: a letter or digit, either behind a dash, a digit behind ``. / _``; ``run``:
    also a digit behind a space (for forms that a table of numbers contains); ``start``: as ``word``, in front only;
    ``line``: anything else on the line; ``paragraph``: anything else between two empty lines."""
    introduced: bool = False
    """True: counts only directly after a keyword (``needs_keyword: before``)."""
    exact: str = ""
    """RE2 expression that must match where ``regex`` began; it says how far the match goes, and its first group, if it
    has one, is the value. ``""``: ``regex`` says all."""
    never: tuple[str, ...] = ()
    """RE2 expressions of whole values (any case) that are not matches."""


@dataclass(frozen=True, slots=True)
class WordList:
    """Words and phrases that are matches by themselves (folded, whole words, any white space between)."""

    words: tuple[str, ...]
    confidence: Confidence


@dataclass(frozen=True, slots=True)
class Gather:
    """Words of the lists that make each other surer: one weak phrase says little, several near each other much."""

    distinct: int
    """So many different ones …"""
    within: int
    """… in so many octets: each is a step surer, with twice as many two."""


@dataclass(frozen=True, slots=True)
class Companions:
    """What must (or may) stand near a match."""

    types: tuple[str, ...]
    within: int
    """Octets between the two."""
    required: bool = True
    """True: without one of them near by it is no match."""
    steps: int = 1
    """Steps of confidence for one near by."""
    confidence: Confidence = Confidence.LOW
    """Of the others, those at least so sure count."""
    unsure_within: int = 0
    """Octets for those that are not high; 0: as for all."""


@dataclass(frozen=True, slots=True)
class TypeCase:
    """One example in the type's own file."""

    it: str
    text: str
    count: int
    """Distinct matches that must be found, at ``confidence`` or above."""
    confidence: Confidence


@dataclass(frozen=True, slots=True)
class InformationType:
    """One type of confidential information."""

    id: str
    title: str
    patterns: tuple[Pattern, ...] = ()
    keywords: tuple[str, ...] = ()
    """Words that raise the confidence of a match near by."""
    keyword_window: int = 80
    """Characters before and after a match in which keywords count."""
    keyword_boost: int = 1
    """Steps of confidence for a keyword near by; one step more when it stands directly before the match."""
    words: tuple[str, ...] = ()
    """Words and phrases that are matches by themselves (folded, whole words, any white space between)."""
    word_confidence: Confidence = Confidence.HIGH
    exclusions: tuple[str, ...] = ()
    """Words that, directly before a match without keywords, say that it is something else."""
    doubts: tuple[str, ...] = ()
    """The same, but what is at least medium by its form alone stays, a step less sure."""
    redaction: str = "***"
    """How evidence is shown: ``{last4}`` is the match's last four letters or digits."""
    cases: tuple[TypeCase, ...] = ()
    word_lists: tuple[WordList, ...] = ()
    """More words, each list with its own confidence."""
    gather: Gather | None = None
    companions: Companions | None = None
    inside: tuple[Network, ...] = ()
    """Networks in which an address must lie; (): anywhere."""
    outside: tuple[Network, ...] = ()
    """Networks in which it must not."""
    names: NameLists | None = None
    """Names of persons are looked for with these."""


def load_types(folder: Path) -> tuple[InformationType, ...]:
    """All types below ``folder/types`` (or in ``folder`` itself when it has no such folder), ordered by id.

    Raises :class:`ConfigErrors` with file, line and column of every problem; nothing is loaded in part.
    """
    inner = folder / "types"
    errors: list[ConfigError] = []
    types: list[InformationType] = []
    documents: dict[str, Document] = {}
    for path in sorted((inner if inner.is_dir() else folder).glob("*.yaml")):
        try:
            type_, documents[path.stem] = _load(path)
            types.append(type_)
        except ConfigErrors as error:
            errors.extend(error.errors)
    if not errors:
        errors.extend(_unknown_companions({t.id: t for t in types}, documents))
    if errors:
        raise ConfigErrors(errors)
    return tuple(sorted(types, key=lambda t: t.id))


def load_type(path: Path) -> InformationType:
    """One file; its companions are not looked for. Raises :class:`ConfigErrors`."""
    return _load(path)[0]


def with_companions(types: Mapping[str, InformationType], ids: Iterable[str]) -> frozenset[str]:
    """The ids and those of the types without which they cannot be found. Unknown ids stay."""
    found: set[str] = set()
    open_ = list(ids)
    while open_:
        id_ = open_.pop()
        if id_ not in found:
            found.add(id_)
            type_ = types.get(id_)
            open_.extend(type_.companions.types if type_ is not None and type_.companions is not None else ())
    return frozenset(found)


def _load(path: Path) -> tuple[InformationType, Document]:
    document = read_yaml(path)
    source = validate(document, _TypeFile)
    if source.id != path.stem:
        raise ConfigErrors([document.error(("id",), f"id «{source.id}» differs from the file's name «{path.stem}»")])
    lists = []
    for n, row in enumerate(source.word_lists):
        words = read_words(path.parent / row.file, document.error(("word_lists", n), ""))
        lists.append(WordList(words, row.confidence))
    files = source.names.model_dump() if source.names else {}
    named = {key: read_words(path.parent / file, document.error(("names", key), "")) for key, file in files.items()}
    return replace(source.value(tuple(lists)), names=NameLists(**named) if named else None), document


def _unknown_companions(types: Mapping[str, InformationType], documents: Mapping[str, Document]) -> list[ConfigError]:
    errors = []
    for type_ in types.values():
        for n, id_ in enumerate(type_.companions.types if type_.companions else ()):
            at = ("companions", "types", n)
            if id_ not in types:
                close = difflib.get_close_matches(id_, sorted(types), n=1)
                hint = f", did you mean «{close[0]}»?" if close else ""
                errors.append(documents[type_.id].error(at, f"information type «{id_}» is not known{hint}"))
            elif type_.id in with_companions(types, [id_]):
                errors.append(documents[type_.id].error(at, f"«{id_}» needs «{type_.id}» beside it in its turn"))
    return errors


def _confidence(value: object) -> object:
    if isinstance(value, str) and value.upper() in Confidence.__members__:
        return Confidence[value.upper()]
    raise ValueError("is not low, medium or high")


def _network(value: object) -> object:
    try:
        return ip_network(str(value))
    except ValueError as error:
        raise ValueError(f"is no network like 10.0.0.0/8 or fd00::/8: {error}") from error


def _re2(value: str) -> str:
    options = re2.Options()
    options.log_errors = False
    try:
        compiled = re2.compile(value, options)
    except re2.error as error:
        text = error.args[0] if error.args else ""
        detail = text.decode() if isinstance(text, bytes) else str(text)
        raise ValueError(f"is no regular expression of RE2: {detail}") from error
    if compiled.match(""):
        raise ValueError("matches the empty text")
    return value


def _spoken(value: tuple[str, ...]) -> tuple[str, ...]:
    for word in value:
        if not any(c.isalnum() for c in word):
            raise ValueError(f"«{word}» has neither letter nor digit")
    return tuple(dict.fromkeys(" ".join(word.split()) for word in value))


_Level = Annotated[Confidence, BeforeValidator(_confidence)]
_Words = Annotated[tuple[str, ...], Field(default=())]
_Network = Annotated[Any, BeforeValidator(_network)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _PatternFile(_Section):
    regex: str
    confidence: _Level = Confidence.LOW
    validator: str = ""
    needs_keyword: bool | Literal["before"] = False
    edges: Literal["word", "run", "start", "line", "paragraph"] = "word"
    exact: str = ""
    never: _Words

    @field_validator("regex")
    @classmethod
    def _usable(cls, value: str) -> str:
        try:
            compiled = re.compile(value.encode("ascii"))
        except UnicodeEncodeError as error:
            raise ValueError("must be ASCII: variants of digits and dashes are made plain before matching") from error
        except re.error as error:
            raise ValueError(f"is no regular expression: {error}") from error
        if compiled.match(b""):
            raise ValueError("matches the empty text")
        return value

    @field_validator("exact")
    @classmethod
    def _exact(cls, value: str) -> str:
        return _re2(value)

    @field_validator("never")
    @classmethod
    def _never(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_re2(row) for row in value)

    @field_validator("validator")
    @classmethod
    def _known(cls, value: str) -> str:
        if value and value not in VALIDATORS:
            raise ValueError(f"is not one of {', '.join(sorted(VALIDATORS))}")
        return value

    def value(self) -> Pattern:
        """The frozen value that travels."""
        return Pattern(
            self.regex, self.confidence, self.validator, bool(self.needs_keyword), self.edges,
            self.needs_keyword == "before", self.exact, self.never,
        )  # fmt: skip


class _WordListFile(_Section):
    file: FileBelow
    confidence: _Level = Confidence.HIGH


class _GatherFile(_Section):
    distinct: int = Field(ge=2, le=100)
    within: int = Field(ge=1, le=10_000)


class _CompanionsFile(_Section):
    types: tuple[str, ...] = Field(min_length=1)
    within: int = Field(ge=1, le=10_000)
    required: bool = True
    steps: int = Field(default=1, ge=0, le=2)
    confidence: _Level = Confidence.LOW
    unsure_within: int = Field(default=0, ge=0, le=10_000)


class _NamesFile(_Section):
    given: FileBelow
    family: FileBelow
    ordinary: FileBelow
    never: FileBelow
    behind: FileBelow


class _NetworksFile(_Section):
    inside: tuple[_Network, ...] = ()
    outside: tuple[_Network, ...] = ()


class _ExpectFile(_Section):
    count: int = Field(ge=0)
    confidence: _Level = Confidence.LOW


class _CaseFile(_Section):
    it: str
    text: str
    expect: _ExpectFile


class _TypeFile(_Section):
    id: str = Field(pattern=r"^[a-z][a-z0-9-]*$")
    title: str
    description: str = ""
    source: tuple[str, ...] = ()
    patterns: tuple[_PatternFile, ...] = ()
    keywords: _Words
    keyword_window: int = Field(default=80, ge=1, le=500)
    keyword_boost: int = Field(default=1, ge=0, le=2)
    words: _Words
    word_confidence: _Level = Confidence.HIGH
    word_lists: tuple[_WordListFile, ...] = ()
    gather: _GatherFile | None = None
    companions: _CompanionsFile | None = None
    networks: _NetworksFile = _NetworksFile()
    names: _NamesFile | None = None
    exclusions: _Words
    doubts: _Words
    redaction: str = "***"
    cases: tuple[_CaseFile, ...]

    @field_validator("keywords", "words", "exclusions", "doubts")
    @classmethod
    def _spoken(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _spoken(value)

    @field_validator("redaction")
    @classmethod
    def _safe(cls, value: str) -> str:
        if "{" in value.replace("{last4}", "") or "}" in value.replace("{last4}", ""):
            raise ValueError("knows only the placeholder {last4}")
        return value

    @model_validator(mode="after")
    def _complete(self) -> "_TypeFile":
        if not self.patterns and not self.words and not self.word_lists and not self.names:
            raise ValueError("a type needs patterns, words or names")
        if not any(case.expect.count for case in self.cases):
            raise ValueError("cases: at least one must fire")
        if all(case.expect.count for case in self.cases):
            raise ValueError("cases: at least one must be a near miss (count: 0)")
        if any(pattern.needs_keyword for pattern in self.patterns) and not self.keywords:
            raise ValueError("needs_keyword without keywords can never match")
        if self.gather and not self.words and not self.word_lists:
            raise ValueError("gather needs words or word_lists")
        if self.networks.model_fields_set and not any(p.validator == "ip-address" for p in self.patterns):
            raise ValueError("networks needs a pattern with the validator ip-address")
        return self

    def value(self, lists: tuple[WordList, ...]) -> InformationType:
        """The frozen value that travels. ``lists``: what stands in the files of ``word_lists``."""
        gather, near = self.gather, self.companions
        return InformationType(
            id=self.id,
            title=self.title,
            patterns=tuple(p.value() for p in self.patterns),
            keywords=self.keywords,
            keyword_window=self.keyword_window,
            keyword_boost=self.keyword_boost,
            words=self.words,
            word_confidence=self.word_confidence,
            exclusions=self.exclusions,
            doubts=self.doubts,
            redaction=self.redaction,
            cases=tuple(TypeCase(c.it, c.text, c.expect.count, c.expect.confidence) for c in self.cases),
            word_lists=lists,
            gather=Gather(gather.distinct, gather.within) if gather else None,
            companions=Companions(**near.model_dump()) if near else None,
            inside=self.networks.inside,
            outside=self.networks.outside,
        )
