"""The gate to content: approvers of the moment and the sender, nobody else."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest

from gateway.hold.access import Ground, may_read
from gateway.hold.approval import Slot
from gateway.hold.states import State
from gateway.hold.values import HeldItem, MessageFacts
from gateway.model.envelope import Client, Direction, Recipient
from gateway.model.verdict import HoldOrder

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
SLOTS = (Slot("director", frozenset({"dora@x", "dan@x"}), why=(("dan@x", "deputy of dora@x"),)),)


@dataclass(frozen=True)
class Somebody:
    """Whom an address reaches."""

    address: str


class Town:
    """Knows one alias."""

    def holders(self, role: str, sender_address: str) -> tuple[str, ...]:
        """Not asked."""
        raise AssertionError

    def person(self, address: str) -> Somebody | None:
        """One alias."""
        return Somebody("dora@x") if address.lower() in ("d@x", "dora@x") else None

    def list(self, id: str) -> None:  # noqa: A002 - the directory's own signature
        """None."""

    def deputies(self, address: str, at: datetime) -> tuple[str, ...]:
        """Not asked."""
        raise AssertionError


def item(state: State = State.HELD, path: str = "alice@x", *authors: str) -> HeldItem:
    """A held item."""
    facts = MessageFacts("T1", NOW, Client(""), path, (), 1, "00", "b", "<1@x>", "S", authors, automatic=False)
    to = (Recipient("all@x", Direction.INTERNAL),)
    return HeldItem("T1-h1", facts, state, "q", 1, to, (HoldOrder("r", "q", ()),), (), (), None, NOW, NOW, NOW)


@pytest.mark.parametrize(
    ("who", "ground", "words"),
    [
        ("dora@x", Ground.APPROVER, "decides as director"),
        ("D@X", Ground.APPROVER, "decides as director"),
        ("dan@x", Ground.APPROVER, "deputy of dora@x"),
        ("alice@x", Ground.SENDER, "sent this message"),
        ("Alice+news@X", Ground.SENDER, "sent this message"),
        ("it@x", Ground.NONE, "no approver"),
        ("", Ground.NONE, "say who you are"),
    ],
)
def test_who_reads(who: str, ground: Ground, words: str) -> None:
    """Approvers by any alias, deputies, the sender by any tag; nobody else, and each with its reason."""
    found = may_read(who, item(), SLOTS, Town())
    assert found.ground is ground
    assert words in found.reason
    assert bool(found) is found.allowed is (ground is not Ground.NONE)


def test_before_the_sender_has_confirmed_only_the_sender_reads() -> None:
    """Approvers are not asked yet, so they do not read yet."""
    assert not may_read("dora@x", item(State.ATTESTING), SLOTS, Town())
    assert may_read("alice@x", item(State.ATTESTING), SLOTS, Town())


def test_a_name_in_from_does_not_open_a_message() -> None:
    """Anybody can write a From field: the reverse-path is who sent it; the null one is nobody."""
    assert not may_read("bob@x", item(State.HELD, "alice@x", "bob@x"), SLOTS, Town())
    assert not may_read("", replace(item(path="")), SLOTS, Town())
