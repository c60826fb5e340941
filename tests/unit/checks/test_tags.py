"""Tags of HTML: where each ends, and that tags which do not close cost no more than others."""

import time

import pytest

from gateway.checks.tags import MOST, attributes, tags_of


def test_a_tag_that_does_not_close_ends_where_a_browser_ends_it() -> None:
    """Quotes that stay open are given up at the next «>»; a tag within an open one is told apart."""
    data = b"<a href='x>words</a><form action=http://a.example <a href=http://b.example>w</a>"
    tags = tags_of(data).found
    assert [tag.name for tag in tags] == ["a", "/a", "form", "a", "/a"]
    assert [attributes(data, tag).get("href", "") for tag in tags] == [
        "x",
        "",
        "http://b.example",
        "http://b.example",
        "",
    ]


@pytest.mark.parametrize("piece", [b"<form action", b"<a href=x ", b"<a b='", b'<meta x="<a y=', b"<a/"])
def test_thousands_of_open_tags_are_read_in_linear_time(piece: bytes) -> None:
    """128 KB, which is read on the event loop: no octet is looked at for every tag before it."""
    data = piece * (128_000 // len(piece))
    began = time.process_time()
    tags = tags_of(data).found
    assert len(tags) <= MOST + 1
    assert sum(len(attributes(data, tag)) for tag in tags) < len(data)
    assert time.process_time() - began < 0.6
