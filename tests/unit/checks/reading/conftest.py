"""How the tests of reading ask."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from gateway.checks.reading.budget import Budget, Limits
from gateway.checks.reading.values import Fact, File, Text
from gateway.checks.reading.walk import Walk


class Read(NamedTuple):
    """What a walk through one attachment found."""

    texts: list[tuple[str, str]]
    """Path and text."""
    facts: list[tuple[str, str]]
    """Path and code."""
    files: list[File]

    @property
    def text(self) -> str:
        """All texts."""
        return "\n".join(text for _, text in self.texts)

    @property
    def codes(self) -> set[str]:
        """All codes."""
        return {code for _, code in self.facts}

    def places(self, needle: str) -> list[str]:
        """Paths of texts that hold this."""
        return [path for path, text in self.texts if needle in text]


ReadFile = Callable[..., Read]


@pytest.fixture
def read() -> ReadFile:
    """Read octets as an attachment; keywords are limits."""

    def run(data: bytes, name: str = "", declared: str = "application/octet-stream", **limits: float) -> Read:
        walk = Walk(Budget(Limits(**limits)))  # type: ignore[arg-type]  # each test names its own
        found = list(walk.attachment(_pieces(data), len(data), name, declared))
        return Read(
            [(f.path, f.item.text) for f in found if isinstance(f.item, Text)],
            [(f.path, f.item.code.value) for f in found if isinstance(f.item, Fact)],
            [f.item for f in found if isinstance(f.item, File)],
        )

    return run


def _pieces(data: bytes) -> Iterator[bytes]:
    for at in range(0, len(data), 57_000):
        yield data[at : at + 57_000]
