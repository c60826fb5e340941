"""JSON of model values: what goes in comes out."""

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import StoreError
from gateway.hold import values
from gateway.model.envelope import Client, Direction, Recipient
from gateway.model.verdict import Disposition, HoldOrder, Mode, RuleMatch, Transform, TransformKind
from gateway.store.text import plain

TEXT = st.text(max_size=20).filter(lambda text: text.isascii() or text.encode("utf-8", "ignore").decode() == text)
TEXTS = st.lists(TEXT, max_size=3).map(tuple)
recipients = st.builds(Recipient, TEXT, st.sampled_from(Direction), TEXTS, TEXTS)
transforms = st.builds(
    Transform,
    st.sampled_from(TransformKind),
    TEXT,
    TEXT,
    TEXTS,
    TEXT,
    TEXT,
    TEXTS,
    TEXTS,
    st.sampled_from(Disposition),
)
spans = st.none() | st.integers(1, 10**9).map(lambda ms: timedelta(milliseconds=ms))
orders = st.builds(HoldOrder, TEXT, TEXT, TEXTS, spans, TEXT, TEXT)
matches = st.builds(RuleMatch, TEXT, TEXT, st.sampled_from(Mode), st.sampled_from(Disposition), TEXTS, TEXT, TEXT)
clients = st.builds(Client, TEXT, st.integers(0, 65535), TEXT, TEXT, TEXT, TEXT, TEXT, st.booleans())


@settings(max_examples=60, deadline=None)
@given(
    st.lists(recipients, max_size=3).map(tuple),
    st.lists(transforms, max_size=3).map(tuple),
    st.lists(orders, max_size=3).map(tuple),
    st.lists(matches, max_size=3).map(tuple),
    clients,
)
def test_round_trip(
    a: tuple[Recipient, ...],
    b: tuple[Transform, ...],
    c: tuple[HoldOrder, ...],
    d: tuple[RuleMatch, ...],
    e: Client,
) -> None:
    """Every model value that the store keeps comes back equal."""
    assert values.load_recipients(values.dump(a)) == a
    assert values.load_transforms(values.dump(b)) == b
    assert values.load_orders(values.dump(c)) == c
    assert values.load_matches(values.dump(d)) == d
    assert values.load_client(values.dump(e)) == e


@pytest.mark.parametrize(
    "text",
    ["", "{}", "nonsense", '[{"kind":"legend"}]', '[{"kind":"unheard-of","rule":"r"}]'],
)
def test_strange_json_is_a_store_error(text: str) -> None:
    """A stored value that is not what was written is an error of the store, never half a value."""
    with pytest.raises(StoreError):
        values.load_transforms(text)


def test_an_unknown_key_is_a_store_error() -> None:
    """A value of a newer version is refused, not cut down to what is known."""
    text = values.dump([Transform(TransformKind.LEGEND, "r")]).replace('"rule"', '"novelty":1,"rule"')
    with pytest.raises(StoreError, match="novelty"):
        values.load_transforms(text)


def test_plain_takes_surrogates_and_controls() -> None:
    """Text from a message cannot break the database's encoding or a header field."""
    assert plain("a\udcff\r\nBcc: x\x00") == "a?  Bcc: x "


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, False),
        ({"auto-submitted": "no"}, False),
        ({"auto-submitted": "No; x=y"}, False),
        ({"auto-submitted": "auto-replied"}, True),
        ({"auto-submitted": "auto-generated; owner-email=a"}, True),
        ({"precedence": "Bulk"}, True),
        ({"precedence": "first-class"}, False),
        ({"list-id": "<x.y>"}, True),
    ],
)
def test_is_automatic(fields: dict[str, str], expected: bool) -> None:
    """RFC 3834 section 2: automatic and list mail is told from a person's."""
    assert values.is_automatic(fields) is expected
