"""What looks for information in a text: this gateway's types, as the content control reads a message.

Text is put into a message and read as one that came in by SMTP, so that what is measured is what happens to mail.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from bench.quality.samples import Label, Sample
from gateway.checks.parts import Reading
from gateway.checks.plain import plain
from gateway.checks.scanner import Scanner
from gateway.checks.tally import Place, Tally
from gateway.mime import parse
from gateway.model.finding import Confidence
from gateway.policy.types import InformationType

CAP = 4 * 1024 * 1024
"""Octets of a part that are looked at."""
AHEAD = 48
"""Characters before a value that a match may take along: «account number: 12345»."""


class Found(NamedTuple):
    """One finding: what, where it begins in the text (characters), how sure."""

    type_: str
    start: int
    confidence: Confidence


class Finder(Protocol):
    """Something that finds types in texts."""

    name: str
    types: frozenset[str]
    """The types that it knows."""

    def find(self, sample: Sample) -> list[Found]:
        """Everything in one text."""
        ...


class Ours:
    """The shipped types."""

    name = "civicgate"

    def __init__(self, types: Sequence[InformationType]) -> None:
        self._scanner = Scanner(types)
        self.types = frozenset(type_.id for type_ in types)

    def find(self, sample: Sample) -> list[Found]:
        """What stands in the message's body; of a whole message, what stands anywhere."""
        reading, tally = Reading(_read_in(sample), parse(_read_in(sample)), CAP), Tally(names=True)
        if sample.octets:
            for title in reading.titles():
                self._scanner.scan(title.data, Place(title.part, title.kind), tally)
        offsets = _Offsets(sample.text)
        for piece in reading.texts():
            self._scanner.scan(piece.data, Place(piece.part), tally)
        return [
            Found(finding.kind, offsets.character(finding.offset), finding.confidence)
            for finding in self._scanner.findings(tally)
        ]


class _Offsets:
    """From octets of the plain form, with the line ends of mail, to characters of the text."""

    def __init__(self, text: str) -> None:
        self._ends: list[int] = []
        at = 0
        for character in text:
            at += 2 if character == "\n" else len(plain(character))
            self._ends.append(at)

    def character(self, octet: int) -> int:
        """The character that covers the octet."""
        low, high = 0, len(self._ends)
        while low < high:
            middle = (low + high) // 2
            if self._ends[middle] <= octet:
                low = middle + 1
            else:
                high = middle
        return low


def message_of(text: str, markup: bool) -> bytes:
    """A message with the text as its only body, line ends as in mail."""
    subtype = "html" if markup else "plain"
    head = (
        "From: clerk@city.example\r\nTo: someone@example.org\r\nSubject: Note\r\nMIME-Version: 1.0\r\n"
        f"Content-Type: text/{subtype}; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    )
    return (head + text.replace("\n", "\r\n") + "\r\n").encode("utf-8", "replace")


def _read_in(sample: Sample) -> bytes:
    return sample.octets or message_of(sample.text, sample.markup)


def covers(label: Label, found: Found) -> bool:
    """True when the finding is one of the labelled value."""
    return found.type_ == label.type_ and label.start - AHEAD <= found.start < max(label.end, label.start + 1)
