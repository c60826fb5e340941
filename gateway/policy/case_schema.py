"""The shape of a case: a message, facts taken for granted, and what must come of it.

Refuses content that cannot be built, and more than one way to say what the message is.
"""

import base64
import binascii
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from gateway.model.finding import Check
from gateway.model.verdict import Disposition, TransformKind
from gateway.policy.shapes import Id, Instant, KeyId, Many, Size, Strict, Text


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
    headers: dict[str, str | tuple[str, ...]] = Field(default_factory=dict)
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


class CaseEncrypted(Strict):
    """Something encrypted, and for which keys."""

    format: Text
    key_ids: Many[KeyId] = ()


class Given(Strict):
    """Facts that a case takes for granted because they need a server or a directory."""

    virus: str | None = None
    failed: Many[Check] = ()
    limited: Many[Check] = ()
    exceptions: tuple[CaseException, ...] = ()
    now: Instant | None = None
    sender: CaseSender = CaseSender()
    lists: dict[str, Many[Text]] = Field(default_factory=dict)
    """Recipient's address -> what lists it is; ``@city-wide`` marks a city-wide one."""
    encrypted: tuple[CaseEncrypted, ...] = ()
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
