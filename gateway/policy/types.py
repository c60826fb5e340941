"""Information types: what confidential content looks like, read from ``rules/types/*.yaml``, one type a file.

Values only: :mod:`gateway.checks` compiles and runs them. Refuses an id that differs from the file's name, a pattern
that is no regular expression or can match nothing, an unknown validator, and a type without a case that fires and a
near miss.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from gateway.errors import ConfigError, ConfigErrors
from gateway.model.finding import Confidence
from gateway.source import read_yaml, validate

VALIDATORS = frozenset({"us-ssn", "payment-card"})
"""Exact checks that a pattern may name: area, group and serial rules; issuer ranges and the Luhn digit."""


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
    also a digit behind a space (for forms that a table of numbers contains)."""


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
    redaction: str = "***"
    """How evidence is shown: ``{last4}`` is the match's last four letters or digits."""
    cases: tuple[TypeCase, ...] = ()


def load_types(folder: Path) -> tuple[InformationType, ...]:
    """All types below ``folder/types`` (or in ``folder`` itself when it has no such folder), ordered by id.

    Raises :class:`ConfigErrors` with file, line and column of every problem; nothing is loaded in part.
    """
    inner = folder / "types"
    errors: list[ConfigError] = []
    types: list[InformationType] = []
    for path in sorted((inner if inner.is_dir() else folder).glob("*.yaml")):
        try:
            types.append(load_type(path))
        except ConfigErrors as error:
            errors.extend(error.errors)
    if errors:
        raise ConfigErrors(errors)
    return tuple(sorted(types, key=lambda t: t.id))


def load_type(path: Path) -> InformationType:
    """One file. Raises :class:`ConfigErrors`."""
    document = read_yaml(path)
    source = validate(document, _TypeFile)
    if source.id != path.stem:
        raise ConfigErrors([document.error(("id",), f"id «{source.id}» differs from the file's name «{path.stem}»")])
    return source.value()


def _confidence(value: object) -> object:
    if isinstance(value, str) and value.upper() in Confidence.__members__:
        return Confidence[value.upper()]
    raise ValueError("is not low, medium or high")


_Level = Annotated[Confidence, BeforeValidator(_confidence)]
_Words = Annotated[tuple[str, ...], Field(default=())]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _PatternFile(_Section):
    regex: str
    confidence: _Level = Confidence.LOW
    validator: str = ""
    needs_keyword: bool = False
    edges: Literal["word", "run"] = "word"

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

    @field_validator("validator")
    @classmethod
    def _known(cls, value: str) -> str:
        if value and value not in VALIDATORS:
            raise ValueError(f"is not one of {', '.join(sorted(VALIDATORS))}")
        return value


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
    exclusions: _Words
    redaction: str = "***"
    cases: tuple[_CaseFile, ...]

    @field_validator("keywords", "words", "exclusions")
    @classmethod
    def _spoken(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for word in value:
            if not any(c.isalnum() for c in word):
                raise ValueError(f"«{word}» has neither letter nor digit")
        return tuple(dict.fromkeys(" ".join(word.split()) for word in value))

    @field_validator("redaction")
    @classmethod
    def _safe(cls, value: str) -> str:
        if "{" in value.replace("{last4}", "") or "}" in value.replace("{last4}", ""):
            raise ValueError("knows only the placeholder {last4}")
        return value

    @model_validator(mode="after")
    def _complete(self) -> "_TypeFile":
        if not self.patterns and not self.words:
            raise ValueError("a type needs patterns or words")
        if not any(case.expect.count for case in self.cases):
            raise ValueError("cases: at least one must fire")
        if all(case.expect.count for case in self.cases):
            raise ValueError("cases: at least one must be a near miss (count: 0)")
        if any(pattern.needs_keyword for pattern in self.patterns) and not self.keywords:
            raise ValueError("needs_keyword without keywords can never match")
        return self

    def value(self) -> InformationType:
        """The frozen value that travels."""
        return InformationType(
            id=self.id,
            title=self.title,
            patterns=tuple(
                Pattern(p.regex, p.confidence, p.validator, p.needs_keyword, p.edges) for p in self.patterns
            ),
            keywords=self.keywords,
            keyword_window=self.keyword_window,
            keyword_boost=self.keyword_boost,
            words=self.words,
            word_confidence=self.word_confidence,
            exclusions=self.exclusions,
            redaction=self.redaction,
            cases=tuple(TypeCase(c.it, c.text, c.expect.count, c.expect.confidence) for c in self.cases),
        )
