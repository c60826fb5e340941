"""Header edits for mail servers: what they make of the old header is the new one."""

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from gateway.pipeline.rewriting import Change, HeaderEdit, ends, header_edits, split

NAMES = ("Received", "Subject", "X-A", "x-a", "Content-Type", "To")


def applied(fields: list[tuple[bytes, bytes]], edits: tuple[HeaderEdit, ...]) -> list[tuple[bytes, bytes]]:
    """What a mail server does with them, one after the other."""
    now = list(fields)
    for edit in edits:
        if edit.change is Change.APPEND:
            now.append((edit.name, edit.value))
        elif edit.change is Change.INSERT:
            now.insert(edit.number, (edit.name, edit.value))
        else:
            places = [n for n, (name, _) in enumerate(now) if name.lower() == edit.name.lower()]
            at = places[edit.number - 1]
            now[at : at + 1] = [(now[at][0], edit.value)] if edit.change is Change.REPLACE else []
    return now


def block(fields: list[tuple[bytes, bytes]]) -> bytes:
    """A header block."""
    return b"".join(name + b":" + value + b"\r\n" for name, value in fields) + b"\r\n"


FIELDS = st.lists(
    st.tuples(st.sampled_from([name.encode() for name in NAMES]), st.sampled_from([b" 1", b" 2", b" 3\r\n\tfolded"])),
    max_size=8,
)


@given(FIELDS, FIELDS)
def test_edits_make_the_new_header_of_the_old(
    before: list[tuple[bytes, bytes]], after: list[tuple[bytes, bytes]]
) -> None:
    """For any two headers, however little they have in common; a field's spelling may stay the old one."""
    got = applied(before, header_edits(block(before), block(after)))
    assert [(name.lower(), value) for name, value in got] == [(name.lower(), value) for name, value in after]


@given(FIELDS)
def test_what_is_the_same_is_not_named(fields: list[tuple[bytes, bytes]]) -> None:
    """No change, no edit."""
    assert header_edits(block(fields), block(fields)) == ()


def test_one_field_more_is_one_edit() -> None:
    """Nothing is replaced that only moved down."""
    before = [(b"Received", b" x"), (b"Subject", b" hello"), (b"To", b" a")]
    after = [before[0], (b"X-A", b" new"), *before[1:]]
    assert header_edits(block(before), block(after)) == (HeaderEdit(Change.INSERT, b"X-A", b" new", 1),)


def test_another_value_is_a_replacement() -> None:
    """By name and number."""
    before = [(b"To", b" a"), (b"To", b" b")]
    after = [(b"To", b" a"), (b"To", b" c")]
    assert header_edits(block(before), block(after)) == (HeaderEdit(Change.REPLACE, b"To", b" c", 2),)


@given(FIELDS, st.binary(max_size=50), st.integers(1, 20))
def test_header_and_body_part_anywhere(fields: list[tuple[bytes, bytes]], body: bytes, size: int) -> None:
    """However the message is cut into pieces, the header block ends where it ends."""
    whole = block(fields) + body
    head, rest = split(iter([whole[n : n + size] for n in range(0, len(whole), size)]))
    assert head == block(fields)
    assert b"".join(rest) == body


def test_a_header_beyond_the_parsers_bounds_has_no_end() -> None:
    """Its rest was taken for the body, which a changed body would then have had twice: in the header, and in itself."""
    large = block([(b"X-A", b" " + b"x" * 1000)] * 2000)
    read = []

    def pieces() -> Iterator[bytes]:
        for at in range(0, 40 * len(large), 65_536):
            read.append(at)
            yield (large[:-2] * 40)[at : at + 65_536]

    head, _ = split(pieces())
    assert not ends(head)
    assert len(read) * 65_536 < 1_200_000
    assert ends(split(iter([block([(b"X-A", b" 1")]), b"body"]))[0])
    assert ends(split(iter([b"\r\nbody"]))[0])
    assert not ends(split(iter([b"X-A: 1\r\nno field\r\n\r\nbody"]))[0])
