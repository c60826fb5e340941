"""The shape of a rule file: what may be written, and nothing else.

Refuses unknown keys, empty values, patterns that do not compile, actions that contradict each other, and an ``encrypt``
that would let mail go in clear. Meaning across files (unknown types, duplicate ids) is :mod:`gateway.policy.loader`'s.
Design section 5; every key is described in ``docs/rules.md``.
"""

from datetime import timedelta
from typing import Annotated, Any, Literal

import re2
from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from gateway.model.envelope import Direction
from gateway.model.finding import Check, Confidence
from gateway.model.verdict import Disposition, Mode
from gateway.policy.case_schema import Case
from gateway.policy.shapes import (
    ID_PATTERN,
    AnyNumber,
    Duration,
    FileBelow,
    Id,
    KeyId,
    Level,
    Lines,
    Many,
    Pattern,
    ReplyText,
    Size,
    Some,
    Strict,
    Text,
    Written,
    as_list,
    some_key,
)


def _virus(value: object) -> object:
    if value is True:
        return ["*"]
    if value is False:
        raise ValueError("is true or a pattern for the signature's name; for «no virus» write not: {virus: true}")
    return as_list(value)


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


# --- when -------------------------------------------------------------------------------------------------------------


class SenderCondition(Strict):
    """The reverse-path and what the directory knows of it."""

    address: Many[Pattern] = ()
    domain: Many[Pattern] = ()
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
        some_key(self)
        return self


class RecipientCondition(Strict):
    """One forward-path."""

    address: Many[Pattern] = ()
    domain: Many[Pattern] = ()
    list: Many[Text] = ()
    city_wide: Literal[True] | None = None
    outside: Literal[True] | None = None

    @model_validator(mode="after")
    def _complete(self) -> "RecipientCondition":
        some_key(self)
        return self


class SizeCondition(Strict):
    """Octets: strictly over, strictly under."""

    over: Size | None = None
    under: Size | None = None

    @model_validator(mode="after")
    def _complete(self) -> "SizeCondition":
        some_key(self)
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
    class_: Annotated[Many[Literal["media", "image", "archive", "document"]], Field(alias="class")] = ()
    size: SizeCondition | None = None
    count: Annotated[int, Field(ge=1)] = 1
    total_over: Size | None = None

    @model_validator(mode="after")
    def _complete(self) -> "AttachmentCondition":
        some_key(self)
        return self


LinkKind = Literal[
    "text-mismatch", "look-alike", "other-tld", "mixed-script", "user-info", "ip-address", "script", "form"
]
EncryptionFormat = Literal["openpgp", "smime", "age", "zip", "7z", "rar", "archive", "pdf", "office", "opendocument"]


class LinkCondition(Strict):
    """Links: some link of one of these kinds goes to one of these hosts."""

    kind: Many[LinkKind] = ()
    host: Many[Text] = ()
    except_: Annotated[Many[Text], Field(alias="except")] = ()

    @model_validator(mode="after")
    def _complete(self) -> "LinkCondition":
        some_key(self)
        return self


class EncryptedCondition(Strict):
    """Something in the message is encrypted, in one of these formats, for none of these keys."""

    format: Many[EncryptionFormat] = ()
    key_ids_without: Many[KeyId] = ()

    @model_validator(mode="after")
    def _complete(self) -> "EncryptedCondition":
        some_key(self)
        return self


class NearCondition(Strict):
    """Another type's match near by, in the same text."""

    type: Text
    within: Annotated[int, Field(ge=1, le=10_000)]
    confidence: Level = Confidence.LOW


class ExcludeCondition(Strict):
    """Matches that do not count."""

    quoted: Literal[True] | None = None
    published: FileBelow | None = None

    @model_validator(mode="after")
    def _complete(self) -> "ExcludeCondition":
        some_key(self)
        return self


class ContentCondition(Strict):
    """Information types: matches of any of them, counted together."""

    types: Many[Text]
    confidence: Level = Confidence.MEDIUM
    count: Annotated[int, Field(ge=1)] = 1
    distinct: bool = True
    part: Many[Literal["body", "attachment", "subject", "file-name"]] = ()
    near: NearCondition | None = None
    exclude: ExcludeCondition | None = None


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
    link: Many[LinkCondition] = ()
    encrypted: Many[EncryptedCondition] = ()
    virus: Annotated[
        tuple[str, ...],
        Written(
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
        some_key(self)
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


_ROLE = {"type": "string", "pattern": ID_PATTERN}
_ROLES = {"anyOf": [_ROLE, {"type": "array", "items": _ROLE}]}
_APPROVERS = {
    "anyOf": [
        *_ROLES["anyOf"],
        {"type": "object", "properties": {"all": _ROLES}, "required": ["all"], "additionalProperties": False},
        {"type": "object", "properties": {"any": _ROLES}, "required": ["any"], "additionalProperties": False},
        {
            "type": "object",
            "properties": {"of": {"type": "integer", "minimum": 1}, "roles": _ROLES},
            "required": ["of", "roles"],
            "additionalProperties": False,
        },
    ]
}
"""For editors."""


def _approvers(value: object) -> object:
    """A role, or a list of roles: all of them."""
    return {"all": as_list(value)} if isinstance(value, (str, list, tuple)) else value


class Approvers(Strict):
    """Which roles must approve, each through another person: all of them, any of them, or so many of them."""

    all_: Annotated[AnyNumber[Id], Field(alias="all")] = ()
    any_: Annotated[Many[Id], Field(alias="any")] = ()
    of: Annotated[int, Field(ge=1)] | None = None
    roles: Many[Id] = ()

    @model_validator(mode="after")
    def _one_way(self) -> "Approvers":
        ways = [way for way in ("all", "any", "of") if (f"{way}_" if way != "of" else way) in self.model_fields_set]
        if len(ways) != 1:
            raise ValueError("needs exactly one of: all, any, of")
        if (self.of is None) != (not self.roles):
            raise ValueError("of and roles go together: of: 2, roles: [mayor, city-attorney, hr-director]")
        named = self.named
        if len(set(named)) != len(named):
            raise ValueError("names a role twice")
        if self.of is not None and self.of > len(named):
            raise ValueError(f"asks for {self.of} of {len(named)} roles")
        return self

    @property
    def named(self) -> tuple[str, ...]:
        """The roles."""
        return self.all_ or self.any_ or self.roles

    @property
    def need(self) -> int | None:
        """How many of them; None: all."""
        return 1 if self.any_ else self.of


class Attestation(Strict):
    """What the sender must confirm before anybody is asked."""

    text: Text


class Hold(Strict):
    """Keep until the roles have decided."""

    queue: Id
    approvers: Annotated[Approvers, BeforeValidator(_approvers), WithJsonSchema(_APPROVERS)] = Approvers.model_validate(
        {"all": ()}
    )
    expires: Duration | None = None
    remind_after: Duration | None = None
    remind_every: Duration | None = None
    escalate_after: Duration | None = None
    escalate_to: Many[Id] = ()
    attestation: Attestation | None = None
    reason: Text
    tell_sender: str = ""

    @field_validator("remind_after", "remind_every", "escalate_after")
    @classmethod
    def _in_time(cls, value: timedelta | None, info: ValidationInfo) -> timedelta | None:
        expires = info.data.get("expires")
        if value is not None and value <= timedelta():
            raise ValueError("must be longer than nothing")
        if value is not None and expires is not None and value >= expires:
            raise ValueError("is no earlier than expires")
        return value

    @model_validator(mode="after")
    def _whole(self) -> "Hold":
        if (self.escalate_after is None) != (not self.escalate_to):
            raise ValueError("escalate_after and escalate_to go together")
        if self.remind_every is not None and self.remind_after is None:
            raise ValueError("remind_every needs remind_after")
        return self


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
        some_key(self)
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


Failure = Literal[Disposition.DEFER, Disposition.HOLD, Disposition.REJECT, Disposition.PASS]
"""What becomes of a message for which a rule is undecided."""


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
    on_failure: Failure = Disposition.DEFER
    on_limit: Failure | None = None
    note: str = ""
    cases: Annotated[tuple[Case, ...], Field(validate_default=True)] = ()

    @field_validator("when")
    @classmethod
    def _no_exception(cls, value: Condition | None) -> Condition | None:
        if value is not None and value.has_exception():
            raise ValueError("exception belongs under unless")
        return value

    @field_validator("on_failure", "on_limit")
    @classmethod
    def _never_in_clear(cls, value: Disposition | None, info: ValidationInfo) -> Disposition | None:
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
