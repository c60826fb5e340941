"""Information types as pure values; the content check compiles them.

Refuses what :class:`~gateway.policy.schema.TypeFile` refuses, and two files with one id.
"""

from dataclasses import dataclass
from pathlib import Path

from gateway.errors import ConfigError, ConfigErrors
from gateway.model.finding import Confidence
from gateway.policy.schema import TypeCase, TypeFile
from gateway.source import Document, read_yaml, validate


@dataclass(frozen=True, slots=True)
class InformationType:
    """One kind of information to look for. Picklable."""

    id: str
    title: str
    source: tuple[str, ...]
    detector: str
    """``us-ssn``, ``payment-card`` (each with the number's own rules and check digits) or ``keywords``."""
    keywords: tuple[str, ...] = ()
    """keywords: phrases, found as whole words, any white space between their words."""
    case_sensitive: bool = False
    """Whether keywords must stand in the case as written. Context words are always compared folded."""
    context: tuple[str, ...] = ()
    """Words of which one within ``near`` characters of a match makes it as sure as ``near_context``."""
    near: int = 80
    alone: Confidence = Confidence.MEDIUM
    """Confidence of a match without context."""
    near_context: Confidence = Confidence.HIGH
    cases: tuple[TypeCase, ...] = ()
    """Texts with how often the type must be found."""


def load_types(folder: Path) -> tuple[InformationType, ...]:
    """Every ``*.yaml`` of the folder, ordered by file name. A missing folder has none.

    Raises :class:`ConfigErrors`: all problems of all files at once, each with file, line and column.
    """
    errors: list[ConfigError] = []
    found: dict[str, tuple[InformationType, Document]] = {}
    for path in sorted(folder.glob("*.yaml")):
        try:
            document = read_yaml(path)
            spec = validate(document, TypeFile)
        except ConfigErrors as error:
            errors.extend(error.errors)
            continue
        if spec.id in found:
            other = found[spec.id][1].error(("id",), "")
            errors.append(document.error(("id",), f"id {spec.id} is used already at {other.file}:{other.line}"))
            continue
        found[spec.id] = (_value(spec), document)
    if errors:
        raise ConfigErrors(errors)
    return tuple(value for value, _ in found.values())


def _value(spec: TypeFile) -> InformationType:
    return InformationType(
        id=spec.id,
        title=spec.title,
        source=spec.source,
        detector=spec.detector,
        keywords=spec.keywords,
        case_sensitive=spec.case_sensitive,
        context=spec.context,
        near=spec.near,
        alone=spec.confidence.alone,
        near_context=spec.confidence.near_context,
        cases=spec.cases,
    )
