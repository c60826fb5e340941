"""Words in a text, all of them in one pass."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.mime.anyof import AnyOf

WORDS = ("from:", ">", "[if ", "nachricht")
ANY = AnyOf(WORDS)


@given(st.text(st.sampled_from("from:FROM>[if nachrichtNÜ\r\n é"), max_size=40))
def test_it_answers_as_a_search_for_each(text: str) -> None:
    """The same as looking for every word, with ASCII letters of either case."""
    lowered = "".join(c.lower() if c.isascii() else c for c in text)
    assert ANY(text) == any(word in lowered for word in WORDS)


def test_words_are_words_and_no_patterns() -> None:
    """What a pattern language would read otherwise stands for itself; beyond ASCII is refused."""
    assert AnyOf([".*"])("a.*b")
    assert not AnyOf([".*"])("ab")
    with pytest.raises(ValueError, match="ASCII"):
        AnyOf(["ü"])
