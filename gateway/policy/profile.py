"""A city's profile: what that city's written policy asks of rules that are shipped for all, in its own words.

One YAML file; for each rule that it names the mode, and keys of its ``hold``: who approves, what the sender must
confirm, texts. Refuses rules that are not there, a ``hold`` for a rule without one, and what a rule may not say.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from gateway.errors import ConfigError, ConfigErrors
from gateway.policy.schema import RuleFile
from gateway.policy.shapes import Id, Strict, Text
from gateway.source import Document, Path_, read_yaml, validate


class ProfileHold(Strict):
    """Keys of a rule's ``hold`` that take the place of its own. Their values are judged with the rule they go into."""

    approvers: Any = None
    expires: Any = None
    remind_after: Any = None
    remind_every: Any = None
    escalate_after: Any = None
    escalate_to: Any = None
    attestation: Any = None
    reason: Any = None
    tell_sender: Any = None


class ProfileRule(Strict):
    """What differs for one rule."""

    mode: Any = None
    hold: ProfileHold | None = None


class ProfileFile(Strict):
    """The whole file."""

    title: Text
    rules: Annotated[dict[Id, ProfileRule], Field(min_length=1)]


class Profile:
    """A profile that was read; none when there is no file."""

    def __init__(self, path: Path | None) -> None:
        """Read it. Raises ConfigErrors."""
        self._document = read_yaml(path) if path is not None else None
        self._rules: dict[str, dict[str, Any]] = {}
        if self._document is not None:
            validate(self._document, ProfileFile)
            self._rules = self._document.data["rules"]

    @property
    def octets(self) -> bytes:
        """For the digest of the rules that are in force."""
        return repr(self._rules).encode() if self._rules else b""

    def adapt(self, document: Document, spec: RuleFile) -> Document:
        """The rule as it is in force: its own document, or one of the profile's that says where it was changed.

        Raises ConfigErrors.
        """
        part = self._rules.get(spec.id)
        if self._document is None or not part:
            return document
        start: Path_ = ("rules", spec.id)
        data = dict(document.data)
        positions: dict[Path_, tuple[int, int]] = {(): self._document.positions.get(start, (1, 1))}
        for path, place in self._document.positions.items():
            if path[:2] == start and path[2:3] == ("hold",):
                positions["then", *path[2:]] = place
            elif path == (*start, "mode"):
                positions["mode",] = place
        if "mode" in part:
            data["mode"] = part["mode"]
        if "hold" in part:
            if spec.then.hold is None:
                raise ConfigErrors([self._document.error((*start, "hold"), f"the rule {spec.id} holds nothing")])
            own = dict(data["then"]["hold"]) | part["hold"]
            data["then"] = dict(data["then"]) | {
                "hold": {key: value for key, value in own.items() if value is not None}
            }
        return Document(self._document.file, data, positions)

    def said(self, adapted: Document, spec: RuleFile) -> Document:
        """Of a rule's document from :meth:`adapt`, what the profile says itself."""
        return replace(adapted, data={"then": {"hold": self._rules[spec.id].get("hold", {})}})

    def unknown(self, ids: Sequence[str]) -> Iterable[ConfigError]:
        """Rules that it names and that are not there."""
        for name in self._rules:
            if self._document is not None and name not in ids:
                yield self._document.error(("rules", name), f"there is no rule «{name}»")
