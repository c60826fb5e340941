"""Nobody's right is used twice: a person and the deputy, or two deputies of one, are not two persons' approval."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import permutations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.hold.approval import LIST_OWNERS, Question, Resolver, covers, fill_places
from gateway.model.verdict import HoldOrder

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Town:
    """Roles and deputies."""

    roles: dict[str, tuple[str, ...]]
    standing_in: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def holders(self, role: str, sender_address: str) -> tuple[str, ...]:
        """Who holds it."""
        return self.roles.get(role, ())

    def person(self, address: str) -> None:
        """No aliases here."""

    def list(self, id: str) -> None:  # noqa: A002 - the directory's own signature
        """No lists here."""

    def deputies(self, address: str, at: datetime) -> tuple[str, ...]:
        """Who stands in today."""
        return self.standing_in.get(address, ())


def missing(town: Town, *people: str, need: int | None = None) -> list[str]:
    """The roles r1 and r2 that stay open when these people approve all that they can."""
    order = HoldOrder("rule", "queue", ("r1", "r2"), need=need)
    needs = Resolver(Question((order,), "sender@x"), town, "it", NOW).needs()
    return [slot.role for slot in needs.missing({person: needs.roles_of(person) for person in people})]


def test_a_person_and_the_deputy_are_one_right() -> None:
    """Regression: p holds both roles, d stands in for p: p and d filled both, which is p's word twice."""
    town = Town({"r1": ("p@x",), "r2": ("p@x",), "it": ("i@x",)}, {"p@x": ("d@x", "e@x")})
    assert len(missing(town, "p@x", "d@x")) == 1
    assert len(missing(town, "d@x", "e@x")) == 1
    assert len(missing(town, "d@x", "e@x", "p@x", need=2)) == 1
    assert missing(town, "d@x", "i@x") == []
    assert missing(town, "d@x", need=1) == []


def test_too_few_rights_ask_the_fallback_role() -> None:
    """Where p and p's deputies are all there are, the roles are not filled: the fallback role is asked besides."""
    town = Town({"r1": ("p@x",), "r2": ("p@x",), "it": ("i@x",)}, {"p@x": ("d@x",)})
    needs = Resolver(Question((HoldOrder("rule", "queue", ("r1", "r2")),), "sender@x"), town, "it", NOW).needs()
    assert needs.vacant == ("r1", "r2")
    assert needs.possible


def test_a_deputy_with_a_role_of_its_own_can_use_either() -> None:
    """D stands in for p in r1 and holds r2: p in r1 and d in r2 are two; so are d in r1 and q in r2."""
    town = Town({"r1": ("p@x",), "r2": ("d@x", "q@x")}, {"p@x": ("d@x",)})
    assert missing(town, "p@x", "d@x") == []
    assert missing(town, "d@x", "q@x") == []
    assert len(missing(town, "d@x")) == 1


PEOPLE = ("a@x", "b@x", "c@x", "d@x")
ROLES = ("r1", "r2", "r3")
RIGHTS = st.frozensets(st.sampled_from(PEOPLE), min_size=1, max_size=2)
OFFERS = st.dictionaries(st.sampled_from(PEOPLE), st.dictionaries(st.sampled_from(ROLES), RIGHTS, max_size=3))


@settings(max_examples=200, deadline=None)
@given(OFFERS)
def test_no_other_choice_fills_more(offers: Mapping[str, Mapping[str, frozenset[str]]]) -> None:
    """Against every way there is: as many roles as can be, each person once, each right once."""
    filled = fill_places(ROLES, offers)
    most = 0
    for people in product((None, *offers), repeat=len(ROLES)):
        wanted = [(role, who) for role, who in zip(ROLES, people, strict=True) if who is not None]
        if len({who for _, who in wanted}) == len(wanted) and all(role in offers[who] for role, who in wanted):
            rights = product(*(offers[who][role] for role, who in wanted))
            if any(len(set(one)) == len(one) for one in rights):
                most = max(most, len(wanted))
    assert len(filled) == most
    assert len(set(filled.values())) == len(filled)


def test_the_order_of_approvals_does_not_matter() -> None:
    """Whoever comes first, the same is missing."""
    town = Town({"r1": ("p@x", "q@x"), "r2": ("p@x",)}, {"p@x": ("d@x",), "q@x": ("d@x",)})
    assert {tuple(missing(town, *order)) for order in permutations(("p@x", "d@x"))} == {()}


def test_a_large_role_takes_no_time() -> None:
    """Three hundred holders and thirty deputies of one: no choice of them all is tried."""
    everybody = tuple(f"p{n}@x" for n in range(300))
    town = Town({"r1": everybody, "r2": ("boss@x",), "it": ()}, {"boss@x": tuple(f"d{n}@x" for n in range(30))})
    assert missing(town, *everybody) == ["r2"]
    assert missing(town, *everybody, "d1@x") == []


def test_many_deputies_of_few_take_no_time() -> None:
    """Six roles of five people with thirty deputies each: five can be filled, and that is found at once."""
    bosses = tuple(f"b{n}@x" for n in range(5))
    offers = {boss: dict.fromkeys("abcdef", frozenset({boss})) for boss in bosses}
    for boss in bosses:
        offers |= {f"d{n}-{boss}": dict.fromkeys("abcdef", frozenset({boss})) for n in range(30)}
    assert len(fill_places("abcdef", offers)) == 5


@pytest.mark.parametrize(
    ("given_as", "role", "counts"),
    [
        ("director", "director", True),
        ("director", "clerk", False),
        (f"{LIST_OWNERS}:a+b", f"{LIST_OWNERS}:b", True),
        (f"{LIST_OWNERS}:a", f"{LIST_OWNERS}:a+b", False),
        (f"{LIST_OWNERS}:a", f"{LIST_OWNERS}:b", False),
        (LIST_OWNERS, f"{LIST_OWNERS}:b", False),
    ],
    ids=["same", "other", "of both, for one", "of one, for both", "of another", "of none"],
)
def test_who_answered_for_several_lists_did_for_each(given_as: str, role: str, counts: bool) -> None:
    """Regression: parting the lists of an item renamed the role, and an approval for both counted for neither."""
    assert covers(given_as, role) is counts
