"""Who is who: look-ups without regard to case, roles, lists."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from gateway.directory import Directory, MailingList, Person, load_directory
from gateway.model.envelope import CITY_WIDE, Sender

ROOT = Path(__file__).parents[3]
TEXT = """
people:
  - {address: Boss@city.example, name: Boss, department: parks}
  - {address: clerk@city.example, name: Clerk, aliases: [Town.Clerk@city.example], department: parks, marks: [seasonal]}
  - {address: visitor@city.example, name: Visitor}
  - {address: temp@city.example, name: Temp, department: vacant, marks: [contractor, seasonal]}
departments:
  - {id: parks, name: Parks, director: boss@city.example}
  - {id: vacant, name: Vacant}
roles:
  it-director: [visitor@city.example, temp@city.example]
lists:
  - {id: all, addresses: [all@city.example, everyone@city.example], city_wide: true,
     owners: [clerk@city.example], size: 9}
  - {id: team, addresses: [team@city.example], approvers: [director, it-director]}
"""


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    """The text above, loaded."""
    (tmp_path / "directory.yaml").write_text(TEXT)
    return load_directory(tmp_path / "directory.yaml")


@pytest.mark.parametrize("address", ["clerk@city.example", "CLERK@City.Example", "town.clerk@city.example"])
def test_person_is_found_by_address_and_alias_in_any_case(directory: Directory, address: str) -> None:
    """Address and alias reach the same person; case does not tell apart."""
    person = directory.person(address)
    assert person is not None
    assert person.name == "Clerk"


def test_sender_has_marks_department_and_owned_lists(directory: Directory) -> None:
    """An alias has all that the person has; the address stays as it was given."""
    sender = directory.sender("Town.Clerk@CITY.example")
    assert sender.address == "Town.Clerk@CITY.example"
    assert (sender.marks, sender.department, sender.lists) == (frozenset({"seasonal"}), "parks", ("all",))


@pytest.mark.parametrize("address", ["", "stranger@else.example", "@city.example"])
def test_unknown_sender_has_nothing(directory: Directory, address: str) -> None:
    """The null reverse-path and strangers have no marks, department or lists."""
    sender = directory.sender(address)
    assert (sender.address, sender.marks, sender.department, sender.lists) == (address, frozenset(), "", ())


def test_lists_of_an_address(directory: Directory) -> None:
    """Each address of a list is that list; a city-wide one says so behind its id; a person is none."""
    assert directory.lists_of("EVERYONE@city.example") == ("all", CITY_WIDE)
    assert directory.lists_of("team@city.example") == ("team",)
    assert directory.lists_of("clerk@city.example") == ()
    assert directory.sender("all@city.example").lists == ("all", CITY_WIDE)


def test_a_detail_takes_nothing_off_whom_the_address_reaches() -> None:
    """RFC 5233: a contractor who wrote as name+x once lost the marks, and the list+x was no list."""
    ann, bob = Person("ann@city.example", "Ann", marks=frozenset({"contractor"})), Person("ann+b@city.example", "Bob")
    everyone, news = MailingList("all", ("all@city.example",)), MailingList("news", ("all+news@city.example",))
    found = Directory(people=(ann, bob), lists=(everyone, news))
    assert found.sender("Ann+X@city.example") == Sender("Ann+X@city.example", ann.marks)
    assert found.person("ann+x+y@city.example") is ann
    assert found.person("ann+B@city.example") is bob
    assert found.sender("ann+b@city.example").marks == frozenset()
    assert found.lists_of("all+x@CITY.example") == ("all",)
    assert found.lists_of("all+news@city.example") == ("news",)
    assert found.lists_of("+all@city.example") == found.lists_of("all@city+x.example") == ()
    assert found.person("+@city.example") is None


def test_list_by_id(directory: Directory) -> None:
    """A list by its id, and None for what is none."""
    found = directory.list("all")
    assert found is not None
    assert (found.size, found.city_wide) == (9, True)
    assert directory.list(CITY_WIDE) is None


@pytest.mark.parametrize("role", ["director", "director-of-sender"])
@pytest.mark.parametrize(
    ("sender", "holders"),
    [
        ("clerk@city.example", ("boss@city.example",)),
        ("Town.Clerk@city.example", ("boss@city.example",)),
        ("visitor@city.example", ()),
        ("temp@city.example", ()),
        ("stranger@else.example", ()),
        ("", ()),
    ],
)
def test_director_is_the_senders_own(directory: Directory, role: str, sender: str, holders: tuple[str, ...]) -> None:
    """The director of the sender's department; nobody without a department or while the post is vacant."""
    assert directory.holders(role, sender) == holders


def test_holders_of_a_role(directory: Directory) -> None:
    """All holders in the order of the file; none for an unknown role."""
    assert directory.holders("it-director") == ("visitor@city.example", "temp@city.example")
    assert directory.holders("emperor", "clerk@city.example") == ()
    assert directory.role_names == {"director", "director-of-sender", "list-owners", "it-director"}


def test_example_city_knows_every_role_that_shipped_rules_name() -> None:
    """With the shipped directory every shipped hold has somebody who can decide, and somebody who can be asked."""
    directory = load_directory(ROOT / "config" / "directory.yaml")
    assert directory.lists_of("everyone@city.example") == ("all-staff", CITY_WIDE)
    assert "contractor" in directory.sender("contractor@city.example").marks
    for role in directory.role_names - {"list-owners"}:
        assert directory.holders(role, "gardener@city.example"), role


def test_empty_file_is_an_empty_directory(tmp_path: Path) -> None:
    """A city without directory has no marks, roles and lists; that is no error."""
    (tmp_path / "d.yaml").write_text("# nobody yet\n")
    assert load_directory(tmp_path / "d.yaml") == Directory()


@pytest.mark.parametrize("written", ["bücher.example", "xn--bcher-kva.example"], ids=["u-label", "a-label"])
def test_a_contractor_whose_domain_is_written_in_its_other_form_is_one(tmp_path: Path, written: str) -> None:
    """Marks, aliases and lists hold for both forms of a domain beyond ASCII, and for decomposed letters."""
    text = f"""
people: [{{address: ann@{written}, name: Ann, aliases: ["zoe\u0308@{written}"], marks: [contractor]}}]
lists: [{{id: all, addresses: [all@{written}], city_wide: true}}]
"""
    (tmp_path / "directory.yaml").write_text(text, "utf-8")
    found = load_directory(tmp_path / "directory.yaml")
    for domain in ("bücher.example", "Bücher.EXAMPLE", "xn--bcher-kva.example", "XN--BCHER-KVA.example"):
        assert found.sender(f"Ann+x@{domain}").marks == {"contractor"}
        assert found.sender(f"zo\u00eb@{domain}").marks == {"contractor"}
        assert found.lists_of(f"ALL@{domain}") == ("all", CITY_WIDE)


def test_deputies_on_their_days(tmp_path: Path) -> None:
    """Both days are included, by the local calendar; aliases name the same person; no deputy of a deputy."""
    (tmp_path / "d.yaml").write_text(
        TEXT + "deputies:\n"
        "  - {person: town.clerk@city.example, deputy: boss@city.example, from: '2026-07-01', until: '2026-07-31'}\n"
        "  - {person: boss@city.example, deputy: visitor@city.example, from: '2026-07-01', until: '2026-07-31'}\n"
    )
    found = load_directory(tmp_path / "d.yaml")
    first = datetime(2026, 7, 1).astimezone()
    for at, expected in (
        (first, ("boss@city.example",)),
        (first - timedelta(seconds=1), ()),
        (first + timedelta(days=31, seconds=-1), ("boss@city.example",)),
        (first + timedelta(days=31), ()),
    ):
        assert found.deputies("CLERK@city.example", at) == expected, at
    assert found.deputies("stranger@else.example", first) == ()
