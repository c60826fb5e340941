"""The shape of a rule file: what may be written, and nothing else.

Refuses unknown keys, empty values, a rule without a case that fires and a near miss, and an ``encrypt`` that would let
mail go in clear. Conditions are :mod:`gateway.policy.when_schema`'s, actions :mod:`gateway.policy.then_schema`'s;
meaning across files (unknown types, duplicate ids) is :mod:`gateway.policy.loader`'s. Design section 5; every key is
described in ``docs/rules.md``.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from gateway.model.envelope import Direction
from gateway.model.verdict import Disposition, Mode
from gateway.policy.case_schema import Case
from gateway.policy.shapes import Id, Many, Strict, Text
from gateway.policy.then_schema import Actions
from gateway.policy.when_schema import Condition

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
