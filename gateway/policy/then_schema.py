"""The shape of ``then`` in a rule file: what happens to a message, and nothing else.

Refuses unknown keys, actions that contradict each other, and approvals that nobody could give.
"""

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema, field_validator, model_validator

from gateway.model.verdict import Disposition
from gateway.policy.shapes import (
    ID_PATTERN,
    AnyNumber,
    Duration,
    Id,
    Lines,
    Many,
    ReplyText,
    Strict,
    Text,
    as_list,
    some_key,
)


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
