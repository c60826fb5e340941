"""The kinds of values that rule files are written in: one or many, sizes, times, texts for people and for servers.

Refuses what cannot be meant: empty lists, keys without a value, reply lines that no mail server would take.
"""

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Annotated, Any, Generic, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from gateway.model.finding import Confidence
from gateway.source import parse_duration, parse_size

T = TypeVar("T")

ID_PATTERN = r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$"
FILE_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*)*$"
"""A file below a folder: never above it, never hidden."""
KEY_ID_PATTERN = r"^(?:(?:0[xX])?[0-9A-Fa-f]{16,64}|[0-9A-Fa-f:]{1,80}@.+|ssh-[a-z0-9]+ \S+)$"
"""OpenPGP key id or fingerprint, S/MIME subject key identifier or ``serial@issuer``, age's tag of an SSH key."""
REPLY_LINE = 400
"""Octets of a reply line at most: RFC 5321 section 4.5.3.1.5 allows 512 with code, ids and CRLF, which are added."""


class _OneOrMany(Generic[T]):
    """Marks a tuple that may be written as a single value."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(as_list, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        many = handler(schema)
        return {"anyOf": [many["items"], many]}


class _NotEmpty:
    """Marks a tuple that has at least one value; said only when its values are right in themselves."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(_not_empty, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(schema), "minItems": 1}


class Written:
    """A value that is written as text and read by ``parse``."""

    def __init__(self, parse: Callable[[object], object], schema: dict[str, Any]) -> None:
        self.parse, self.schema = parse, schema

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.parse, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return self.schema


def as_list(value: object) -> object:
    """A single value as a list of one."""
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _not_empty(value: tuple[T, ...]) -> tuple[T, ...]:
    if not value:
        raise ValueError("needs at least one value")
    return value


def _confidence(value: object) -> Confidence:
    if isinstance(value, str) and value in ("low", "medium", "high"):
        return Confidence[value.upper()]
    if isinstance(value, Confidence):
        return value
    raise ValueError("is low, medium or high")


def _ascii_lines(value: str) -> str:
    """Reply text: printable ASCII (RFC 5321 section 4.2; UTF-8 would need SMTPUTF8 of the client), short lines."""
    for row in value.strip("\n").split("\n"):
        if len(row) > REPLY_LINE:
            raise ValueError(f"has a line longer than {REPLY_LINE} characters")
        if not row.isascii() or not row.isprintable():
            raise ValueError("is read by mail servers: only printable ASCII")
    return "\n".join(row.strip() for row in value.strip().split("\n"))


def _text_lines(value: object) -> object:
    """Lines for people: a block of text or a list of lines."""
    return value.strip("\n").split("\n") if isinstance(value, str) else value


def _file_below(value: object) -> object:
    if not isinstance(value, str) or not re.match(FILE_PATTERN, value):
        raise ValueError("is not a file below the folder, like words/list.txt")
    return value


def _instant(value: object) -> datetime:
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        raise ValueError('is not an instant like "2026-03-01T09:00:00+00:00"') from None
    if moment.tzinfo is None:
        raise ValueError("needs a time zone, e.g. +00:00")
    return moment


def _pattern(value: str) -> str:
    """Refuse a wildcard inside a label beyond ASCII: names are compared in their A-label form (RFC 5890)."""
    for label in value.rpartition("@")[2].split(".") if "." in value else ():
        if not label.isascii() and ("*" in label or "?" in label):
            raise ValueError(f"has a wildcard in «{label}», which is compared as xn--…: write the whole label")
    return value


_SIZE_SCHEMA = {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}]}
Some = Annotated[tuple[T, ...], _NotEmpty()]
Many = Annotated[Some[T], _OneOrMany()]
AnyNumber = Annotated[tuple[T, ...], _OneOrMany()]
Size = Annotated[int, Written(parse_size, _SIZE_SCHEMA)]
Duration = Annotated[timedelta, Written(parse_duration, {"type": "string"})]
Instant = Annotated[datetime, Written(_instant, {"type": "string"})]
Level = Annotated[Confidence, Written(_confidence, {"enum": ["low", "medium", "high"]})]
Text = Annotated[str, Field(min_length=1)]
Pattern = Annotated[Text, AfterValidator(_pattern)]
"""An address or a domain, or a pattern of them."""
Id = Annotated[str, Field(pattern=ID_PATTERN)]
FileBelow = Annotated[str, Written(_file_below, {"type": "string", "pattern": FILE_PATTERN})]
ReplyText = Annotated[str, Field(min_length=1), BeforeValidator(lambda v: _ascii_lines(v) if isinstance(v, str) else v)]
KeyId = Annotated[str, Field(pattern=KEY_ID_PATTERN)]
Lines = Annotated[
    Some[str],
    Written(_text_lines, {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]


class Strict(BaseModel):
    """Base of all shapes: frozen, no unknown keys, no key left empty."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_enum_values=False)

    @model_validator(mode="before")
    @classmethod
    def _nothing_empty(cls, data: Any) -> Any:
        if isinstance(data, dict):
            for key, value in data.items():
                if value is None and isinstance(key, str):
                    raise ValueError(f"«{key}» is empty")
        return data


def some_key(model: Strict) -> None:
    """Raise ValueError when no key at all is written."""
    if not model.model_fields_set:
        keys = ", ".join(info.alias or name for name, info in type(model).model_fields.items())
        raise ValueError(f"needs at least one of: {keys}")
