"""Networks: who is in one, and a memory that cannot be filled up."""

from ipaddress import ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.pipeline import membership
from gateway.pipeline.membership import Membership

INSIDE = Membership([ip_network("10.0.0.0/8"), ip_network("2001:db8::/32"), ip_network("192.0.2.7/32")])


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("10.1.2.3", True), ("11.0.0.1", False), ("192.0.2.7", True), ("192.0.2.8", False), ("2001:db8::1", True),
        ("2001:db9::1", False), ("::ffff:10.1.2.3", True), ("::ffff:11.1.2.3", False), ("::a01:203", False),
        ("", False), ("10.1.2", False), ("localhost", False), ("10.1.2.3/8", False),
    ],
)  # fmt: skip
def test_who_is_inside(address: str, *, inside: bool) -> None:
    """IPv4, IPv6 and mapped addresses; what is no address is nowhere; asked twice it is the same."""
    assert INSIDE(address) is inside
    assert INSIDE(address) is inside


@settings(deadline=None)
@given(st.text(max_size=30))
def test_any_text_has_an_answer(text: str) -> None:
    """Nothing that a peer can say raises."""
    assert INSIDE(text) in (True, False)


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many clients do not fill it, and forgetting changes no answer."""
    monkeypatch.setattr(membership, "_REMEMBERED", 5)
    small = Membership([ip_network("10.0.0.0/30")])
    assert [small(f"10.0.0.{n}") for n in range(20)] == [True] * 4 + [False] * 16
    assert len(small._known) <= 5
