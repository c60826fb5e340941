"""The shape of ``when`` and ``unless`` in a rule file: conditions, and nothing else.

Refuses unknown keys, empty conditions and patterns that do not compile.
"""

from typing import Annotated, Any, Literal

import re2
from pydantic import Field, field_validator, model_validator

from gateway.model.envelope import Direction
from gateway.model.finding import Check, Confidence
from gateway.policy.shapes import (
    FileBelow,
    Id,
    KeyId,
    Level,
    Many,
    Pattern,
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
