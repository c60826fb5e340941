"""Who may decide, and when enough distinct people have."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.hold.approval import LIST_OWNERS, Needs, Question, Resolver, Slot, assign, identity
from gateway.model.verdict import HoldOrder


@dataclass(frozen=True)
class Somebody:
    """Whom an address reaches."""

    address: str


@dataclass(frozen=True)
class Town:
    """Roles and aliases."""

    roles: dict[str, tuple[str, ...]]
    aliases: dict[str, str]
    standing_in: dict[str, tuple[str, ...]] = field(default_factory=dict)
    owners: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def holders(self, role: str, sender_address: str) -> tuple[str, ...]:
        """Who holds it."""
        return self.roles.get(role, ())

    def person(self, address: str) -> Somebody | None:
        """Only aliases are known here."""
        found = self.aliases.get(address.lower())
        return Somebody(found) if found else None

    def list(self, id: str) -> "SomeList | None":  # noqa: A002 - the directory's own signature
        """A list with owners."""
        return SomeList(self.owners[id]) if id in self.owners else None

    def deputies(self, address: str, at: datetime) -> tuple[str, ...]:
        """Who stands in today."""
        return self.standing_in.get(address, ()) if at == NOW else ()


@dataclass(frozen=True)
class SomeList:
    """A list."""

    owners: tuple[str, ...]
    size: int = 0


NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def slots(orders: list[HoldOrder], sender: str, authors: Sequence[str], town: Town, fallback: str) -> tuple[Slot, ...]:
    """The slots of an item."""
    return Resolver(Question(tuple(orders), sender, tuple(authors)), town, fallback, NOW).needs().slots


PEOPLE = ["a@x", "b@x", "c@x", "d@x"]
ROLES = ["r1", "r2", "r3"]


def orders(*roles: str) -> list[HoldOrder]:
    """One order for these roles."""
    return [HoldOrder("rule", "queue", roles)]


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(PEOPLE), st.sets(st.sampled_from(ROLES), max_size=3)))
def test_assign_is_a_largest_set_of_distinct_pairs(offers: dict[str, set[str]]) -> None:
    """Each person fills at most one role, only one that was offered, and no other assignment fills more roles."""
    filled = assign(ROLES, offers)
    assert len(set(filled.values())) == len(filled)
    assert all(role in offers[person] for role, person in filled.items())
    everyone = [*offers, None, None, None]
    best = max(
        sum(1 for role, person in zip(ROLES, choice, strict=True) if person is not None and role in offers[person])
        for choice in permutations(everyone, len(ROLES))
    )
    assert len(filled) == best


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(st.sampled_from([*ROLES, "spare"]), st.lists(st.sampled_from(PEOPLE), unique=True).map(tuple)),
    st.lists(st.sampled_from(ROLES), min_size=1, max_size=3),
    st.sampled_from([*PEOPLE, "", "alias@x"]),
)
def test_the_sender_never_counts_and_people_are_distinct(
    roles: dict[str, tuple[str, ...]], wanted: list[str], sender: str
) -> None:
    """Whatever the directory: the sender, by any alias, is in no slot; each wanted role is exactly one slot."""
    town = Town(roles, {"alias@x": "a@x"})
    found = slots(orders(*wanted), sender, (), town, "spare")
    assert [slot.role for slot in found] == list(dict.fromkeys(wanted))
    me = identity(town, sender)
    assert all(me not in slot.people for slot in found)


def test_one_person_with_both_roles_fills_only_one() -> None:
    """Somebody who is director and communications specialist cannot approve alone: the fallback role is asked too."""
    town = Town({"director": ("a@x",), "communications": ("a@x",), "spare": ("s@x",)}, {})
    found = slots(orders("director", "communications"), "z@x", (), town, "spare")
    assert [slot.people for slot in found] == [{"a@x", "s@x"}, {"a@x", "s@x"}]
    assert len(assign([s.role for s in found], {"a@x": ["director", "communications"]})) == 1


def test_a_director_who_sends_is_replaced_by_the_fallback_role() -> None:
    """The only holder of a role sends: the fallback role decides in its place."""
    town = Town({"director": ("a@x",), "spare": ("s@x",)}, {})
    (slot,) = slots(orders("director"), "A@X", (), town, "spare")
    assert slot.people == {"s@x"}
    assert slot.fallback


def test_authors_count_as_senders() -> None:
    """Somebody named in From may not approve, even when the reverse-path is another."""
    town = Town({"director": ("a@x", "b@x")}, {"boss@x": "a@x"})
    (slot,) = slots(orders("director"), "bounce@x", ("boss@x",), town, "spare")
    assert slot.people == {"b@x"}


def test_a_tag_does_not_hide_the_sender() -> None:
    """``name+tag`` is the same person as ``name``."""
    town = Town({"director": ("a@x", "b@x")}, {})
    (slot,) = slots(orders("director"), "A+news@x", (), town, "spare")
    assert slot.people == {"b@x"}


@pytest.mark.parametrize(
    "written",
    ['"a"@x', '"a+tag"@x', '"\\a"@x', "a@x.", "A@X"],
    ids=["quoted", "tag in quotes", "escaped", "dot", "case"],
)
def test_quotes_do_not_hide_the_author(written: str) -> None:
    """Regression: ``From: "name"@domain`` is name@domain, and let its writer approve the message."""
    town = Town({"r": ("a@x", "b@x")}, {"a@x": "a@x"})
    assert slots(orders("r"), "other@x", [written], town, "it")[0].people == {"b@x"}


def test_an_order_without_roles_asks_the_fallback_role() -> None:
    """A rule that names no role is decided by the settings' role."""
    town = Town({"spare": ("s@x",)}, {})
    (slot,) = slots(orders(), "z@x", (), town, "spare")
    assert slot.role == "spare"
    assert slot.people == {"s@x"}


def test_roles_of_several_orders_add_up_once() -> None:
    """Two orders that share a role ask for it once."""
    town = Town({"r1": ("a@x",), "r2": ("b@x",), "r3": ("c@x",)}, {})
    found = slots([*orders("r1", "r2"), *orders("r2", "r3")], "z@x", (), town, "spare")
    assert [slot.role for slot in found] == ["r1", "r2", "r3"]


def test_the_order_of_approvals_does_not_lock_anybody_out() -> None:
    """Who holds two roles moves aside when the next person can fill only one of them."""
    assert assign(["director", "it"], {"both@x": ["director", "it"], "only@x": ["director"]}) == {
        "director": "only@x",
        "it": "both@x",
    }


def needs(town: Town, *orders: HoldOrder, sender: str = "z@x", at: datetime = NOW, **more: object) -> Needs:
    """What an item needs."""
    asked = replace(Question(orders, sender), **more)  # type: ignore[arg-type]  # a test's own keys
    return Resolver(asked, town, "spare", at).needs()


def order(*roles: str, need: int | None = None, rule: str = "rule", escalate: tuple[str, ...] = ()) -> HoldOrder:
    """A hold order."""
    return HoldOrder(rule, "queue", roles, need=need, escalate_to=escalate)


THREE = Town({"r1": ("a@x",), "r2": ("b@x",), "r3": ("c@x", "a@x"), "spare": ("s@x",)}, {})


@pytest.mark.parametrize(
    ("need", "offers", "open_"),
    [
        (1, {}, ["r1 or r2 or r3"]),
        (1, {"b@x": ["r2"]}, []),
        (2, {}, ["r1 or r2 or r3"] * 2),
        (2, {"b@x": ["r2"]}, ["r1 or r3"]),
        (2, {"b@x": ["r2"], "c@x": ["r3"]}, []),
        (2, {"a@x": ["r1", "r3"]}, ["r2 or r3"]),
        (3, {"b@x": ["r2"], "c@x": ["r3"]}, ["r1"]),
        (None, {"a@x": ["r1", "r3"], "b@x": ["r2"]}, ["r3"]),
    ],
    ids=["any", "any-met", "two", "two-one-there", "two-met", "one-person-is-one", "three-is-all", "all"],
)
def test_any_of_and_n_of(need: int | None, offers: dict[str, list[str]], open_: list[str]) -> None:
    """So many of the roles, each through another person; what is open is named with the roles that are left."""
    found = needs(THREE, order("r1", "r2", "r3", need=need)).missing(offers)
    assert [slot.role for slot in found] == open_


def test_two_of_the_same_role_are_one_of_two_roles() -> None:
    """Of «two of r1, r3» two holders of r3 fill one."""
    town = Town({"r1": ("a@x",), "r3": ("c@x", "d@x")}, {})
    assert [s.role for s in needs(town, order("r1", "r3", need=2)).missing({"c@x": ["r3"], "d@x": ["r3"]})] == ["r1"]


def test_a_choice_and_a_required_role_add_up() -> None:
    """r1, and any of r1 and r2: r1 counts for both. r1, and any of r2 and r3: that takes one more person."""
    both = needs(THREE, order("r1"), order("r1", "r2", need=1, rule="other"))
    assert both.missing({"a@x": ["r1"]}) == ()
    other = needs(THREE, order("r1"), order("r2", "r3", need=1, rule="other"))
    assert other.count == 2
    assert [slot.role for slot in other.missing({"a@x": ["r1", "r3"]})] == ["r2 or r3"]
    assert other.missing({"a@x": ["r1", "r3"], "c@x": ["r3"]}) == ()


def test_a_choice_without_one_of_its_roles_needs_no_fallback() -> None:
    """Nobody holds r1: of «any of r1, r2» r2 is left; of «two of» them the fallback role is asked for r1."""
    town = Town({"r2": ("b@x",), "spare": ("s@x",)}, {})
    one = needs(town, order("r1", "r2", need=1))
    assert ([s.role for s in one.slots], one.vacant) == (["r2"], ())
    two = needs(town, order("r1", "r2", need=2))
    assert (two.vacant, sorted(two.people), two.possible) == (("r1",), ["b@x", "s@x"], True)


def test_nobody_at_all_is_never_nothing_missing() -> None:
    """No holder, no fallback: impossible, and still missing."""
    for need in (None, 1, 2):
        nobody = needs(Town({}, {}), order("r1", "r2", need=need))
        assert not nobody.possible
        assert nobody.missing({})
        assert nobody.people == frozenset()


def test_deputies_stand_in_on_their_days_and_never_for_or_as_the_sender() -> None:
    """A deputy fills the role beside its holder; a sender is barred as deputy, and so is the deputy of a sender."""
    town = Town({"r1": ("a@x",), "spare": ("s@x",)}, {}, {"a@x": ("b@x", "c@x")})
    (slot,) = needs(town, order("r1"), sender="c@x").slots
    assert (sorted(slot.people), slot.why) == (["a@x", "b@x"], (("b@x", "deputy of a@x"),))
    (slot,) = needs(town, order("r1"), at=NOW.replace(day=22)).slots
    assert slot.people == {"a@x"}
    (slot,) = needs(town, order("r1"), sender="a@x").slots
    assert (sorted(slot.people), slot.fallback) == (["s@x"], True)


def test_a_deputy_of_two_fills_one_role() -> None:
    """Who stands in for both is still one person."""
    town = Town({"r1": ("a@x",), "r2": ("b@x",)}, {}, {"a@x": ("d@x",), "b@x": ("d@x",)})
    found = needs(town, order("r1", "r2"))
    assert found.roles_of("d@x") == ("r1", "r2")
    assert len(found.missing({"d@x": ["r1", "r2"]})) == 1


def test_owners_of_the_lists_that_it_goes_to() -> None:
    """Each list's owners are asked; lists with a common owner are one approval; a list without owners falls back."""
    owners = {"l1": ("a@x", "b@x"), "l2": ("b@x", "c@x"), "l3": ("d@x",), "l4": ()}
    town = Town({"spare": ("s@x",)}, {}, {}, owners)
    found = needs(town, order(LIST_OWNERS), lists=("l1", "l2", "l3"))
    assert {s.role: s.people for s in found.slots} == {"list-owners:l1+l2": {"b@x"}, "list-owners:l3": {"d@x"}}
    assert needs(town, order(LIST_OWNERS), lists=("l4",)).vacant == ("list-owners:l4",)
    assert needs(town, order(LIST_OWNERS)).people == {"s@x"}
    assert needs(town, order(LIST_OWNERS), sender="d@x", lists=("l3",)).people == {"s@x"}


def test_escalation_adds_people_and_still_wants_different_ones() -> None:
    """After its time the further role can fill any of the order's roles, but not two, and not those of other orders."""
    town = Town({"r1": ("a@x",), "r2": ("b@x",), "boss": ("e@x",), "other": ("o@x",)}, {}, {"e@x": ("f@x",)})
    orders = (order("r1", "r2", rule="one", escalate=("boss",)), order("other", rule="two"))
    assert "e@x" not in needs(town, *orders).people
    later = needs(town, *orders, escalated=frozenset({"one"}))
    assert later.roles_of("e@x") == later.roles_of("f@x") == ("r1", "r2")
    assert len(later.missing({"e@x": ["r1", "r2"], "o@x": ["other"]})) == 1
    assert dict(later.slots[0].why)["e@x"].startswith("asked as boss")


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(st.sampled_from(ROLES), st.lists(st.sampled_from(PEOPLE), unique=True).map(tuple)),
    st.lists(st.sampled_from(ROLES), min_size=1, max_size=3, unique=True),
    st.integers(1, 3),
    st.sets(st.sampled_from(PEOPLE)),
)
def test_nothing_is_missing_only_when_enough_distinct_people_have_said_yes(
    roles: dict[str, tuple[str, ...]], wanted: list[str], need: int, said: set[str]
) -> None:
    """Brute force over every way to give the people different roles agrees, whatever the directory says."""
    found = needs(Town(roles, {}), order(*wanted, need=min(need, len(wanted))))
    offers = {person: found.roles_of(person) for person in sorted(said)}
    people = [*sorted(said), *[None] * len(wanted)]
    most = max(
        sum(1 for role, p in zip(wanted, way, strict=True) if p is not None and role in offers[p])
        for way in permutations(people, len(wanted))
    )
    assert (found.missing(offers) == ()) == (most >= min(need, len(wanted)))
