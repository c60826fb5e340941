"""Who may decide, and when enough distinct people have."""

from dataclasses import dataclass
from itertools import permutations

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.hold.approval import assign, identity, slots
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

    def holders(self, role: str, sender_address: str) -> tuple[str, ...]:
        """Who holds it."""
        return self.roles.get(role, ())

    def person(self, address: str) -> Somebody | None:
        """Only aliases are known here."""
        found = self.aliases.get(address.lower())
        return Somebody(found) if found else None

    def list(self, id: str) -> None:  # noqa: A002 - the directory's own signature
        """None."""
        return


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
