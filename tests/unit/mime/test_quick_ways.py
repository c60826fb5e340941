"""The quick ways through a message say what the slow ones say."""

from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.mime import hypertext, lineends
from gateway.mime.hypertext import html_to_text
from gateway.mime.lineends import line_ends

_PIECES = st.sampled_from(
    (
        *(
            "<p>",
            "</p>",
            "<P class='x'>",
            '<p style="margin:0 0 1em">',
            "<br>",
            "<br/>",
            "<BR />",
            "<td>",
            "<b>",
            "</b>",
        ),
        *('<a href="x', '">', "<a href='x>y'>", "<img alt='shown'>", '<img alt="', "<span title=hint>", "<script>"),
        *("</script>", "<style>", "</style>", "<!--", "-->", "<", ">", "'", '"', "=", "536", "-90-", "4399", "&amp;"),
        *("&#10;", " ", "  ", "\r\n", "\n", "\t", "\xa0", "<![endif]-->", "<!--[if mso]>", "<o:p>", "</o:p >", "a"),
    )
)


@settings(max_examples=400, deadline=None)
@given(st.lists(_PIECES, max_size=30).map("".join))
def test_remembered_tags_change_nothing(source: str) -> None:
    """HTML reads the same whether a tag is remembered or read where it stands."""
    quick = html_to_text(source)
    with patch.object(hypertext, "_mark", lambda _tag: None):
        assert html_to_text(source) == quick


def test_what_is_remembered_is_bounded() -> None:
    """A thousand tags are remembered, not every one that anybody ever sent."""
    html_to_text("".join(f"<x{n}>" for n in range(5000)))
    assert len(hypertext._marks) <= 1000


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from((b"\r\n", b"\r", b"\n", b"\0", b"a", b"bc")), max_size=12).map(b"".join), st.integers(1, 5)
)
def test_line_ends_are_those_that_counting_finds(data: bytes, chunk: int) -> None:
    """NUL, bare CR, bare LF and CRLF are seen wherever they stand, also across the cuts of a large message."""
    with patch.object(lineends, "_CHUNK", chunk):
        found = line_ends(data)
    pairs = data.count(b"\r\n")
    assert found == (b"\0" in data, data.count(b"\r") > pairs, data.count(b"\n") > pairs, pairs > 0)
