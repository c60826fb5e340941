"""Words in a text, all of them in one pass."""

import mmap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.mime.anyof import AnyOf, Marks

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


def test_marks_are_told_octet_for_octet_in_memory_and_in_a_file(tmp_path: Path) -> None:
    """Each mark that stands in the buffer is told, whatever its octets mean elsewhere; another case is another mark."""
    marks = Marks([b"begin ", b".*\x00", b"(nHex"])
    path = tmp_path / "message"
    path.write_bytes(b"x" * 70_000 + b"Begin .*\x00 (nHex" + b"y" * 70_000)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert marks(mapped) == {b".*\x00", b"(nHex"}
    assert marks(b"begin 644 a.out\n") == {b"begin "}
    assert marks(b"") == frozenset()
