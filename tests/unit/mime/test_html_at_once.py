"""Reading HTML at one go says what reading it tag by tag says."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.checks.coded import may_hold
from gateway.mime import hypertext
from gateway.mime.hypertext import html_to_text

_PIECES = (
    *(
        "<p>",
        "</p>",
        "<br>",
        "<BR />",
        "<b>",
        "</b>",
        "<td>",
        "<div class='x'>",
        "<!DOCTYPE html>",
        "<li\n>",
        "<hr\t/>",
    ),
    *("<", ">", "<>", "< p>", "</", '<a href="x">', "<img alt='seen'>", "<style>", "</style>", "<!--", "-->"),
    *(f"<p {'a' * 195}>", f"<p {'a' * 196}>", f"<p {'a' * 197}>", "<i title=t>", "\r\n", "\n", "\r", "\f", "\t", " "),
    *("  ", "   ", "a", "12", "-- ", "&amp;", "&nbsp;", "&#160;", "\xa0", "\u00e9", "\u2003", "\x1c"),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(_PIECES), max_size=16).map("".join))
def test_what_is_read_at_one_go_is_what_is_read_tag_by_tag(source: str) -> None:
    """The short way for documents of ordinary tags gives the text that the long way gives."""
    at_once = html_to_text(source)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(hypertext._Reader, "_read_at_once", lambda _reader: False)
        assert html_to_text(source) == at_once


@given(st.lists(st.sampled_from(_PIECES), max_size=12).map("".join))
def test_white_space_becomes_spaces_the_same_way_for_ascii(source: str) -> None:
    """Octets and characters are put on one line alike."""
    long_way = " ".join(source.split("\r\n")).translate(hypertext._TO_SPACE)
    assert hypertext._on_one_line(source) == long_way


@pytest.mark.parametrize(
    ("text", "held"),
    [
        (b"begin 644 x\nM", True), (b"we begin 644 things", False), (b"=ybegin line=128 name=x\n", True),
        (b"(This file must be converted with BinHex 4.0)\n:", True), (b"the beginning", False), (b"BinHex", False),
    ],
    ids=["uuencode", "words", "yenc", "binhex", "begin", "name"],
)  # fmt: skip
def test_a_quick_look_tells_what_may_hold_a_coded_file(text: bytes, held: bool) -> None:
    """Rare letters first says no less than the whole words."""
    assert may_hold(text) is held
