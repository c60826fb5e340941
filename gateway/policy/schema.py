"""The shape of a rule file: what may be written, and nothing else.

Refuses unknown keys, empty values, patterns that do not compile, actions that contradict each other, and an ``encrypt``
that would let mail go in clear. Meaning across files (unknown types, duplicate ids) is :mod:`gateway.policy.loader`'s.
Design section 5; every key is described in ``docs/rules.md``.
"""

import base64
import binascii
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Annotated, Any, Generic, Literal, TypeVar

import re2
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from gateway.model.envelope import Direction
from gateway.model.finding import Check, Confidence
from gateway.model.verdict import Disposition, Mode, TransformKind
from gateway.source import parse_duration, parse_size

T = TypeVar("T")

ID_PATTERN = r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$"
REPLY_LINE = 400
"""Octets of a reply line at most: RFC 5321 section 4.5.3.1.5 allows 512 with code, ids and CRLF, which are added."""


class _OneOrMany(Generic[T]):
    """Marks a tuple that may be written as a single value."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(_as_list, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        many = handler(schema)
        return {"anyOf": [many["items"], many]}


class _NotEmpty:
    """Marks a tuple that has at least one value; said only when its values are right in themselves."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(_not_empty, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(schema), "minItems": 1}


class _Written:
    """A value that is written as text and read by ``parse``."""

    def __init__(self, parse: Callable[[object], object], schema: dict[str, Any]) -> None:
        self.parse, self.schema = parse, schema

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.parse, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return self.schema


def _as_list(value: object) -> object:
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


def _virus(value: object) -> object:
    if value is True:
        return ["*"]
    if value is False:
        raise ValueError("is true or a pattern for the signature's name; for «no virus» write not: {virus: true}")
    return _as_list(value)


def _regex(value: str) -> str:
    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(value, options)
    except re2.error as error:
        text = error.args[0] if error.args else ""
        raise ValueError(
            f"is not a regular expression: {text.decode() if isinstance(text, bytes) else text}"
        ) from error
    return value


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


def _instant(value: object) -> datetime:
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        raise ValueError('is not an instant like "2026-03-01T09:00:00+00:00"') from None
    if moment.tzinfo is None:
        raise ValueError("needs a time zone, e.g. +00:00")
    return moment


_SIZE_SCHEMA = {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}]}
Some = Annotated[tuple[T, ...], _NotEmpty()]
Many = Annotated[Some[T], _OneOrMany()]
Size = Annotated[int, _Written(parse_size, _SIZE_SCHEMA)]
Duration = Annotated[timedelta, _Written(parse_duration, {"type": "string"})]
Instant = Annotated[datetime, _Written(_instant, {"type": "string"})]
Level = Annotated[Confidence, _Written(_confidence, {"enum": ["low", "medium", "high"]})]
Text = Annotated[str, Field(min_length=1)]
Id = Annotated[str, Field(pattern=ID_PATTERN)]
ReplyText = Annotated[str, Field(min_length=1), BeforeValidator(lambda v: _ascii_lines(v) if isinstance(v, str) else v)]
Lines = Annotated[
    Some[str],
    _Written(_text_lines, {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
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


def _some_key(model: Strict) -> None:
    if not model.model_fields_set:
        keys = ", ".join(info.alias or name for name, info in type(model).model_fields.items())
        raise ValueError(f"needs at least one of: {keys}")


# --- when -------------------------------------------------------------------------------------------------------------


class SenderCondition(Strict):
    """The reverse-path and what the directory knows of it."""

    address: Many[Text] = ()
    domain: Many[Text] = ()
    mark: Many[Text] = ()
    list: Many[Text] = ()
    department: Many[Text] = ()
    null: Literal[True] | None = None

    @model_validator(mode="before")
    @classmethod
    def _null_key(cls, data: Any) -> Any:
        # YAML reads an unquoted «null» as the null value, also as a key.
        return (
            {("null" if key is None else key): value for key, value in data.items()} if isinstance(data, dict) else data
        )

    @model_validator(mode="after")
    def _complete(self) -> "SenderCondition":
        _some_key(self)
        return self


class RecipientCondition(Strict):
    """One forward-path."""

    address: Many[Text] = ()
    domain: Many[Text] = ()
    list: Many[Text] = ()
    city_wide: Literal[True] | None = None
    outside: Literal[True] | None = None

    @model_validator(mode="after")
    def _complete(self) -> "RecipientCondition":
        _some_key(self)
        return self


class SizeCondition(Strict):
    """Octets: strictly over, strictly under."""

    over: Size | None = None
    under: Size | None = None

    @model_validator(mode="after")
    def _complete(self) -> "SizeCondition":
        _some_key(self)
        return self


class HeaderCondition(Strict):
    """One header field; exactly one test."""

    name: Annotated[str, Field(pattern=r"^[!-9;-~]+$")]
    matches: str | None = None
    contains: Many[Text] = ()
    present: Literal[True] | None = None
    absent: Literal[True] | None = None

    @field_validator("matches")
    @classmethod
    def _compiles(cls, value: str) -> str:
        return _regex(value)

    @model_validator(mode="after")
    def _one_test(self) -> "HeaderCondition":
        if len(self.model_fields_set - {"name"}) != 1:
            raise ValueError("needs exactly one of: matches, contains, present, absent")
        return self


class AttachmentCondition(Strict):
    """Attachments for which all keys hold; at least ``count`` of them."""

    type: Many[Text] = ()
    declared: Many[Text] = ()
    name: Many[Text] = ()
    size: SizeCondition | None = None
    count: Annotated[int, Field(ge=1)] = 1

    @model_validator(mode="after")
    def _complete(self) -> "AttachmentCondition":
        _some_key(self)
        return self


class ContentCondition(Strict):
    """Information types: matches of any of them, counted together."""

    types: Many[Text]
    confidence: Level = Confidence.MEDIUM
    count: Annotated[int, Field(ge=1)] = 1


class SignatureBlockCondition(Strict):
    """No signature block of the message has one of these wordings."""

    missing: Many[Text]


class LegendCondition(Strict):
    """The legend of this id stands in the message already."""

    present: Id


class ControlCondition(Strict):
    """A control could not give an answer."""

    failed: Many[Check]


class Condition(Strict):
    """Keys hold together; a list under a key means any of its values."""

    direction: Many[Direction] = ()
    sender: Many[SenderCondition] = ()
    recipient: Many[RecipientCondition] = ()
    size: SizeCondition | None = None
    header: Many[HeaderCondition] = ()
    attachment: Many[AttachmentCondition] = ()
    content: Many[ContentCondition] = ()
    virus: Annotated[
        tuple[str, ...],
        _Written(
            _virus, {"anyOf": [{"const": True}, {"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
        ),
    ] = ()
    signature_block: SignatureBlockCondition | None = None
    legend: LegendCondition | None = None
    structure: Many[Text] = ()
    control: ControlCondition | None = None
    automatic_reply: Literal[True] | None = None
    exception: Id | None = None
    all_: Annotated[Some["Condition"], Field(alias="all")] = ()
    any_: Annotated[Some["Condition"], Field(alias="any")] = ()
    not_: Annotated["Condition | None", Field(alias="not")] = None

    @model_validator(mode="after")
    def _complete(self) -> "Condition":
        _some_key(self)
        return self

    def has_exception(self) -> bool:
        """True when ``exception`` stands here or below."""
        below = (*self.all_, *self.any_, *((self.not_,) if self.not_ else ()))
        return self.exception is not None or any(inner.has_exception() for inner in below)


# --- then -------------------------------------------------------------------------------------------------------------


class Reject(Strict):
    """Refuse for good."""

    text: ReplyText
    code: Annotated[int, Field(ge=500, le=599)] = 550
    enhanced: Annotated[str, Field(pattern=r"^5\.\d{1,3}\.\d{1,3}$")] = "5.7.1"


class Defer(Strict):
    """Refuse for now."""

    text: ReplyText
    code: Annotated[int, Field(ge=400, le=499)] = 451
    enhanced: Annotated[str, Field(pattern=r"^4\.\d{1,3}\.\d{1,3}$")] = "4.7.1"


class Hold(Strict):
    """Keep until the roles have decided."""

    queue: Id
    approvers: Annotated[tuple[Id, ...], _OneOrMany()] = ()
    expires: Duration | None = None
    reason: Text
    tell_sender: str = ""


class PutLines(Strict):
    """A legend or a banner: its id (so that it is put once) and its lines."""

    id: Id
    lines: Lines


class Encrypt(Strict):
    """End to end, by the first method that works for a recipient."""

    methods: Many[Literal["smime"]]


class InsertSignatureBlock(Strict):
    """Put these lines as the signature block unless one of the wordings stands there."""

    lines: Lines
    wordings: Many[Text]


class AddHeader(Strict):
    """One header field."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z][!-9;-~]{0,70}$")]
    value: Annotated[str, Field(min_length=1, max_length=900, pattern=r"^[^\r\n\x00]*$")]


class Notify(Strict):
    """Tell these roles."""

    roles: Many[Id]
    reason: Text


class Actions(Strict):
    """What happens. One disposition at most; transforms and notices may join it where that makes sense."""

    reject: Reject | None = None
    defer: Defer | None = None
    hold: Hold | None = None
    discard: Literal[True] | None = None
    legend: PutLines | None = None
    banner: PutLines | None = None
    encrypt: Encrypt | None = None
    insert_signature_block: InsertSignatureBlock | None = None
    header: Many[AddHeader] = ()
    notify: Many[Notify] = ()

    @model_validator(mode="after")
    def _sensible(self) -> "Actions":
        _some_key(self)
        dispositions = [key for key in ("reject", "defer", "discard", "hold") if getattr(self, key)]
        if len(dispositions) > 1:
            raise ValueError(f"{' and '.join(dispositions)} cannot happen together")
        changes = [k for k in ("legend", "banner", "encrypt", "insert_signature_block", "header") if getattr(self, k)]
        if changes and dispositions and dispositions[0] != "hold":
            raise ValueError(f"{changes[0]} has no effect on a message that {dispositions[0]} ends")
        return self

    @property
    def disposition(self) -> Disposition:
        """The rule's own disposition."""
        for value in (Disposition.REJECT, Disposition.DEFER, Disposition.HOLD, Disposition.DISCARD):
            if getattr(self, value.value):
                return value
        return Disposition.PASS


# --- cases ------------------------------------------------------------------------------------------------------------


class CaseAttachment(Strict):
    """An attachment: its content as text or base64, filled with zero octets up to ``size``."""

    name: str = ""
    type: str = "application/octet-stream"
    text: str | None = None
    base64: str | None = None
    size: Size | None = None

    @field_validator("base64")
    @classmethod
    def _decodes(cls, value: str) -> str:
        try:
            base64.b64decode("".join(value.split()), validate=True)
        except binascii.Error as error:
            raise ValueError(f"is not base64: {error}") from error
        return value

    @model_validator(mode="after")
    def _content(self) -> "CaseAttachment":
        if not self.model_fields_set & {"text", "base64", "size"} or self.model_fields_set >= {"text", "base64"}:
            raise ValueError("needs text, base64 or size; text and base64 cannot stand together")
        return self


class CaseMessage(Strict):
    """The message of a case: made from these keys, written out whole, or a file beside the rule."""

    from_: Annotated[str, Field(alias="from")]
    to: Many[Text]
    subject: str = "A case"
    text: str | None = None
    html: str | None = None
    headers: dict[str, str | tuple[str, ...]] = {}
    attachments: tuple[CaseAttachment, ...] = ()
    raw: str | None = None
    file: str | None = None
    size: Size | None = None
    """Octets that the message is taken to have, without building so many."""

    @model_validator(mode="after")
    def _file_alone(self) -> "CaseMessage":
        made = self.model_fields_set & {"subject", "text", "html", "headers", "attachments"}
        whole = self.model_fields_set & {"raw", "file"}
        if len(whole) > 1 or (whole and made):
            raise ValueError(f"{' and '.join(sorted([*whole, *made])[:2])} cannot stand together")
        return self


class CaseException(Strict):
    """An exception record in force."""

    kind: Id
    sender: str = "*"
    recipient: str = "*"
    expires: Instant | None = None
    uses_left: int | None = None
    max_size: Size | None = None


class CaseSender(Strict):
    """What the directory says of the sender."""

    marks: Many[Text] = ()
    department: str = ""
    lists: Many[Text] = ()


class Given(Strict):
    """Facts that a case takes for granted because they need a server or a directory."""

    virus: str | None = None
    failed: Many[Check] = ()
    exceptions: tuple[CaseException, ...] = ()
    now: Instant | None = None
    sender: CaseSender = CaseSender()
    lists: dict[str, Many[Text]] = {}
    """Recipient's address -> what lists it is; ``@city-wide`` marks a city-wide one."""
    inside: bool | None = None
    """Whether the client is the city's own; default: the sender's domain is city.example."""


class Expect(Strict):
    """What must come out for the recipients ``to`` (default: all)."""

    to: Many[Text] = ()
    disposition: Disposition = Disposition.PASS
    transforms: tuple[TransformKind, ...] = ()
    matches: tuple[Id, ...] | None = None
    reply: str | None = None

    def fires(self, rule: str) -> bool:
        """True when the rule has to match for this to come out."""
        if self.matches is not None:
            return rule in self.matches
        return self.disposition is not Disposition.PASS or bool(self.transforms)


class Case(Strict):
    """One message in, the exact outcome out."""

    it: Text
    message: CaseMessage
    given: Given = Given()
    expect: Many[Expect]


class RuleFile(Strict):
    """One rule."""

    id: Id
    title: Text
    source: Many[Annotated[str, Field(pattern=r"^[a-z-]+/[a-z-]+$")]]
    mode: Mode = Mode.ENFORCE
    direction: Many[Direction] = ()
    when: Annotated[Condition | None, BeforeValidator(lambda v: {"any": v} if isinstance(v, list) else v)] = None
    unless: Annotated[Condition | None, BeforeValidator(lambda v: {"any": v} if isinstance(v, list) else v)] = None
    then: Actions
    on_failure: Literal[Disposition.DEFER, Disposition.HOLD, Disposition.REJECT, Disposition.PASS] = Disposition.DEFER
    note: str = ""
    cases: Annotated[tuple[Case, ...], Field(validate_default=True)] = ()

    @field_validator("when")
    @classmethod
    def _no_exception(cls, value: Condition | None) -> Condition | None:
        if value is not None and value.has_exception():
            raise ValueError("exception belongs under unless")
        return value

    @field_validator("on_failure")
    @classmethod
    def _never_in_clear(cls, value: Disposition, info: ValidationInfo) -> Disposition:
        then = info.data.get("then")
        if value is Disposition.PASS and isinstance(then, Actions) and then.encrypt is not None:
            raise ValueError("pass would send in clear what encrypt says must never leave in clear")
        return value

    @field_validator("cases")
    @classmethod
    def _both_ways(cls, value: tuple[Case, ...], info: ValidationInfo) -> tuple[Case, ...]:
        fires = [any(e.fires(info.data.get("id", "")) for e in case.expect) for case in value]
        if True not in fires:
            raise ValueError("at least one case must show the rule firing")
        if False not in fires:
            raise ValueError("at least one case must be a near miss, in which the rule does not match")
        return value

    @model_validator(mode="after")
    def _asks_something(self) -> "RuleFile":
        if self.when is None and not self.direction:
            raise ValueError("needs when or direction")
        return self


def schema(model: type[BaseModel] = RuleFile) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a rule file, for editors. It refuses less than loading does."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema(by_alias=True)}


PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
