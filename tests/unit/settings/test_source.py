"""Reading YAML: positions, suggestions, everything wrong at once, and no text that gets past the refusals."""

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from gateway.errors import ConfigError, ConfigErrors
from gateway.settings import Settings
from gateway.source import MAX_BYTES, parse_duration, parse_size, parse_yaml, read_yaml, validate


class Inner(BaseModel):
    """A model below."""

    model_config = ConfigDict(extra="forbid")
    colour: str
    weight: int = 1


class Outer(BaseModel):
    """A model with a list of models."""

    model_config = ConfigDict(extra="forbid")
    items: tuple[Inner, ...] = ()
    either: int | Inner = 0


def _refused(text: str, model: type[BaseModel] = Outer) -> list[str]:
    with pytest.raises(ConfigErrors) as refused:
        validate(parse_yaml(text, "f.yaml"), model)
    return str(refused.value).split("\n")


def test_every_key_and_item_has_its_line_and_column() -> None:
    """Positions count from 1, in block and in flow style."""
    document = parse_yaml("a:\n  b: 1\nc:\n  - x\n  - {d: 2}\n", "f")
    assert document.data == {"a": {"b": 1}, "c": ["x", {"d": 2}]}
    assert document.positions == {
        ("a",): (1, 1), ("a", "b"): (2, 3), ("c",): (3, 1), ("c", 0): (4, 5), ("c", 1): (5, 5), ("c", 1, "d"): (5, 6),
    }  # fmt: skip


def test_an_error_stands_at_the_deepest_ancestor_that_is_in_the_file() -> None:
    """What is missing is reported where it should have been."""
    document = parse_yaml("a:\n  b: 1\n", "f")
    assert str(document.error(("a", "b", "c", 3), "x")) == "f:2:3: x"
    assert str(document.error(("z",), "x")) == "f:1:1: x"


def test_plain_data_is_of_pythons_own_types() -> None:
    """Nothing of the YAML library stays behind in what is validated."""
    data = parse_yaml('a: 0x10\nb: 1.50\nc: "quoted"\nd: |\n  block\ne: true\nf:\n', "f").data
    assert data == {"a": 16, "b": 1.5, "c": "quoted", "d": "block\n", "e": True, "f": None}
    assert [type(value) for value in data.values()] == [int, float, str, str, bool, type(None)]


def test_several_errors_come_at_once_in_the_files_order() -> None:
    """An administrator corrects a file once."""
    assert _refused("items:\n  - colour: 1\n    wieght: 2\n  - weight: x\n") == [
        "f.yaml:2:5: items.0.colour: input should be a valid string, not 1",
        "f.yaml:3:5: unknown key «wieght», did you mean «weight»?",
        "f.yaml:4:5: missing key «colour»",
        "f.yaml:4:5: items.1.weight: input should be a valid integer, unable to parse string as an integer, not 'x'",
    ]


def test_a_suggestion_is_made_only_when_something_is_close() -> None:
    """No suggestion is better than a wild one; the same word is no suggestion."""
    assert _refused("zebra: 1\n") == ["f.yaml:1:1: unknown key «zebra»"]
    assert _refused("weight: 1\n") == ["f.yaml:1:1: unknown key «weight», which belongs elsewhere"]


def test_steps_that_pydantic_adds_for_unions_are_not_shown() -> None:
    """The path in an error is the file's own."""
    assert all(row.startswith("f.yaml:1:1: either") for row in _refused("either: [1]\n"))


def test_an_empty_file_is_all_defaults() -> None:
    """Nothing but comments is a valid file of settings."""
    assert validate(parse_yaml("# nothing\n", "f"), Outer) == Outer()


def test_part_of_a_document_can_be_validated() -> None:
    """A path picks the part; positions stay the file's."""
    document = parse_yaml("x:\n  y:\n    colour: 3\n", "f")
    with pytest.raises(ConfigErrors, match=r"^f:3:5: x\.y\.colour: "):
        validate(document, Inner, ("x", "y"))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """The operating system's reason is given, and the name that the caller chose."""
    with pytest.raises(ConfigErrors, match=r"^rules/a\.yaml: cannot be read: No such file or directory$"):
        read_yaml(tmp_path / "a.yaml", "rules/a.yaml")


def test_a_file_that_is_too_large_is_not_parsed(tmp_path: Path) -> None:
    """A mailbox given by mistake is refused by its size."""
    (tmp_path / "mbox").write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(ConfigErrors, match=f"is larger than {MAX_BYTES} bytes"):
        read_yaml(tmp_path / "mbox")


def test_an_alias_is_allowed_while_it_stays_small() -> None:
    """Anchors that save typing work."""
    data = parse_yaml("one: &lines [first line of several, second line]\ntwo: *lines\n", "f").data
    assert data["one"] == data["two"] == ["first line of several", "second line"]


@settings(deadline=None)
@given(st.text(alphabet="ab:-[]{}&*!|>?%@'\"#,\n\t 01.~<", max_size=60))
@example("1: x\n")
@example("? [a, b]\n: 1\n")
@example("x: {<<: {a: 1}}\n")
@example("!!omap [a: 1]\n")
@example("&a [*a]\n")
@example("[" * 300)
def test_any_text_is_read_or_refused_with_its_place(text: str) -> None:
    """No text brings anything but data or a ConfigErrors of which each has file, line and column."""
    try:
        validate(parse_yaml(text, "f.yaml"), Settings)
    except ConfigErrors as refused:
        for error in refused.errors:
            assert isinstance(error, ConfigError)
            assert str(error).startswith(f"f.yaml:{error.line}:{error.column}: ")
            assert error.line >= 1
            assert error.column >= 1
            assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("text", "octets"),
    [
        ("0", 0), ("1000000", 10**6), (4096, 4096), ("50 MB", 5 * 10**7), ("50MB", 5 * 10**7), ("1.5 kB", 1500),
        ("256 KiB", 2**18), ("1 GiB", 2**30), ("2 GB", 2 * 10**9), ("7 B", 7), ("1 KB", 1000), (" 3 MiB ", 3 * 2**20),
    ],
)  # fmt: skip
def test_sizes_are_read(text: object, octets: int) -> None:
    """Decimal and binary units are told apart."""
    assert parse_size(text) == octets


@pytest.mark.parametrize("text", ["", "50 mb", "-1", "1,000", "50 MB or so", "MB", True, None, "1e6", "50 M"])
def test_what_is_no_size_is_refused(text: object) -> None:
    """Nothing is guessed."""
    with pytest.raises(ValueError, match="is not a size like"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("300 ms", 0.3), ("30 s", 30.0), ("5min", 300.0), ("48 h", 172800.0), ("7 d", 604800.0), ("1.5 h", 5400.0)],
)
def test_times_are_read(text: str, seconds: float) -> None:
    """Every unit counts what it says."""
    assert parse_duration(text) == timedelta(seconds=seconds)
    assert parse_duration(parse_duration(text)) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "30", 30, "-1 s", "5 minutes", "1 w", "1 m", True, None])
def test_what_is_no_time_is_refused(text: object) -> None:
    """A number without a unit is not a time."""
    with pytest.raises(ValueError, match="is not a time like"):
        parse_duration(text)


def test_what_was_read_before_is_read_as_new() -> None:
    """Whoever changes what was read changes it for nobody else, and another file of the same text has its own name."""
    parse_yaml("a: [1]\n", "f").data["a"].append(2)
    again = parse_yaml("a: [1]\n", "g")
    assert again.data == parse_yaml("a: [1]\n", "f").data == {"a": [1]}
    assert again.error(("a",), "wrong").file == "g"
