"""Every key of ``when``: a value that fits and one that does not."""

from typing import Any

import pytest

from gateway.model.envelope import CITY_WIDE
from gateway.model.finding import Check, Confidence, Finding
from gateway.policy import decide


def _matches(world: Any, when: dict[str, Any], *items: Finding, **more: Any) -> bool:
    to = more.pop("to", world.to("b@elsewhere.example"))
    size = more.pop("size", 1000)
    failed = more.pop("failed", ())
    rules = world.rules({"when": when, "then": {"discard": True}, "on_failure": "pass"})
    findings = world.findings(*items, size=size, failed=failed)
    verdict = decide(world.envelope(to, **more), findings, rules, world.now)
    return any(not match.failed_control for match in verdict.groups[0].matches)


def _attachment(name: str, real: str = "application/pdf", size: int = 10, declared: str = "") -> Finding:
    return Finding(Check.ATTACHMENT, real, name, "2", declared=declared or real, size=size)


def _header(name: str, value: str) -> Finding:
    return Finding(Check.HEADER, name, value)


@pytest.mark.parametrize(
    ("when", "yes", "no"),
    [
        ({"sender": {"address": "Clerk@city.example"}}, {"sender": "clerk@CITY.example"}, {"sender": "x@city.example"}),
        ({"sender": {"address": "c*@city.example"}}, {"sender": "clerk@city.example"}, {"sender": "x@city.example"}),
        ({"sender": {"domain": ["a.example", "*.city.example"]}}, {"sender": "x@it.city.example"}, {"sender": "x@b.c"}),
        ({"sender": {"mark": "contractor"}}, {"marks": frozenset({"contractor"})}, {"marks": frozenset({"staff"})}),
        ({"sender": {"list": "news"}}, {"lists": ("news",)}, {"lists": ("newsroom",)}),
        ({"sender": {"department": "parks"}}, {"department": "parks"}, {"department": ""}),
        ({"sender": {"null": True}}, {"sender": ""}, {"sender": "a@city.example"}),
        ({"sender": [{"null": True}, {"mark": "m"}]}, {"marks": frozenset({"m"})}, {}),
        ({"sender": {"mark": "m", "department": "d"}}, {"marks": frozenset({"m"}), "department": "d"},
         {"marks": frozenset({"m"}), "department": "e"}),
        ({"size": {"over": "1 kB"}}, {"size": 1001}, {"size": 1000}),
        ({"size": {"under": "1 kB"}}, {"size": 999}, {"size": 1000}),
        ({"size": {"over": 10, "under": 20}}, {"size": 15}, {"size": 25}),
        ({"control": {"failed": ["virus"]}}, {"failed": (Check.VIRUS,)}, {"failed": (Check.CONTENT,)}),
        ({"any": [{"size": {"over": 10}}, {"sender": {"null": True}}]}, {"size": 11}, {"size": 9}),
        ({"all": [{"size": {"over": 10}}, {"size": {"under": 20}}]}, {"size": 15}, {"size": 25}),
        ({"not": {"size": {"over": 10}}}, {"size": 9}, {"size": 11}),
        ([{"size": {"over": 10}}, {"sender": {"null": True}}], {"size": 11}, {"size": 9}),
    ],
)  # fmt: skip
def test_envelope_condition(world: Any, when: Any, yes: dict[str, Any], no: dict[str, Any]) -> None:
    """A condition on sender, size or controls holds for what it says and not beside it."""
    assert _matches(world, when, **yes)
    assert not _matches(world, when, **no)


@pytest.mark.parametrize(
    ("when", "yes", "no"),
    [
        ({"direction": "internal"}, ("a@b.c", "internal"), ("a@b.c", "outbound")),
        ({"direction": ["internal", "inbound"]}, ("a@b.c", "inbound"), ("a@b.c", "outbound")),
        ({"recipient": {"outside": True}}, ("a@b.c", "outbound"), ("a@b.c", "internal")),
        ({"recipient": {"address": "press@*"}}, ("Press@B.example", "outbound"), ("a@b.example", "outbound")),
        ({"recipient": {"domain": "b.example"}}, ("a@B.example", "outbound"), ("a@sub.b.example", "outbound")),
        ({"recipient": {"list": "*"}}, ("l@b.c", "internal", "parks"), ("l@b.c", "internal")),
        ({"recipient": {"list": "parks"}}, ("l@b.c", "internal", "parks"), ("l@b.c", "internal", "works")),
        ({"recipient": {"city_wide": True}}, ("l@b.c", "internal", "all", CITY_WIDE), ("l@b.c", "internal", "all")),
    ],
)
def test_recipient_condition(world: Any, when: Any, yes: tuple[str, ...], no: tuple[str, ...]) -> None:
    """A condition on the recipient holds for what it says and not beside it."""
    assert _matches(world, when, to=world.to(*yes))
    assert not _matches(world, when, to=world.to(*no))


@pytest.mark.parametrize(
    ("when", "yes", "no"),
    [
        ({"header": {"name": "Subject", "matches": "(?i)^win"}}, _header("subject", "Win"), _header("subject", "A")),
        ({"header": {"name": "Subject", "matches": "x"}}, _header("subject", "\udcffx"), _header("subject", "\udcff")),
        ({"header": {"name": "Subject", "contains": ["A b"]}}, _header("subject", "xa Bx"), _header("subject", "ab")),
        ({"header": {"name": "X-A", "present": True}}, _header("x-a", ""), _header("x-b", "")),
        ({"header": {"name": "X-A", "absent": True}}, _header("x-b", ""), _header("x-a", "")),
        ({"attachment": {"type": "image/*"}}, _attachment("a", "image/png"), _attachment("a.png")),
        ({"attachment": {"declared": "image/*"}}, _attachment("a", declared="image/png"), _attachment("a")),
        ({"attachment": {"name": "*.exe"}}, _attachment("A.EXE"), _attachment("a.exe.txt")),
        ({"attachment": {"name": "*.exe"}}, _attachment("a.exe. "), _attachment("a[.exe].b")),
        ({"attachment": {"name": "a[1].b"}}, _attachment("a[1].b"), _attachment("a1.b")),
        ({"attachment": {"name": "*", "size": {"over": 10}}}, _attachment("a", size=11), _attachment("a", size=10)),
        ({"content": {"types": ["t"], "confidence": "high"}}, Finding(Check.CONTENT, "t"),
         Finding(Check.CONTENT, "t", confidence=Confidence.MEDIUM)),
        ({"content": {"types": ["t"], "count": 3}}, Finding(Check.CONTENT, "t", count=3),
         Finding(Check.CONTENT, "t", count=2)),
        ({"virus": True}, Finding(Check.VIRUS, "Eicar"), _header("virus", "Eicar")),
        ({"virus": "win.*"}, Finding(Check.VIRUS, "Win.X"), Finding(Check.VIRUS, "Unix.X")),
        ({"structure": ["too-*", "nul"]}, Finding(Check.STRUCTURE, "too-deep"), Finding(Check.STRUCTURE, "bare-cr")),
        ({"signature_block": {"missing": ["non-city  employee"]}}, Finding(Check.SIGNATURE_BLOCK, "present"),
         Finding(Check.SIGNATURE_BLOCK, "identified")),
        ({"signature_block": {"missing": ["a b"]}}, Finding(Check.SIGNATURE_BLOCK, "identified", "other"),
         Finding(Check.SIGNATURE_BLOCK, "identified", "A  B")),
        ({"automatic_reply": True}, _header("auto-submitted", " Auto-Replied (x)"), _header("auto-submitted", "no")),
    ],
)  # fmt: skip
def test_message_condition(world: Any, when: Any, yes: Finding, no: Finding) -> None:
    """A condition on findings holds for what it says and not beside it."""
    assert _matches(world, when, yes)
    assert not _matches(world, when, no)


def test_content_counts_types_together(world: Any) -> None:
    """One match each of two types are two matches."""
    items = Finding(Check.CONTENT, "t"), Finding(Check.CONTENT, "u")
    assert _matches(world, {"content": {"types": ["t", "u"], "count": 2}}, *items)
    assert not _matches(world, {"content": {"types": ["t"], "count": 2}}, *items)


def test_attachment_count_needs_so_many(world: Any) -> None:
    """``count`` counts the attachments for which all keys hold."""
    when = {"attachment": {"name": "*.exe", "count": 2}}
    assert _matches(world, when, _attachment("a.exe"), _attachment("b.exe"))
    assert not _matches(world, when, _attachment("a.exe"), _attachment("b.txt"))


def test_legend_that_is_absent_is_not_present(world: Any) -> None:
    """The legend check reports absence as a finding too; only presence counts."""
    when = {"legend": {"present": "c"}}
    assert _matches(world, when, Finding(Check.LEGEND, "c", "present"))
    assert not _matches(world, when, Finding(Check.LEGEND, "c", "absent"))


def test_null_sender_is_an_automatic_reply_before_any_header_is_read(world: Any) -> None:
    """RFC 3834: the null reverse-path needs no header."""
    assert _matches(world, {"automatic_reply": True}, sender="", failed=(Check.HEADER,))


@pytest.mark.parametrize("kind", ["text-truncated", "candidates-capped"])
def test_content_beyond_a_limit_is_not_known(world: Any, kind: str) -> None:
    """What the content check could not read is never «nothing found», also under ``not``."""
    when = {"content": {"types": ["t"]}}
    limit = Finding(Check.STRUCTURE, kind)
    assert not _matches(world, when, limit)
    assert not _matches(world, {"not": when}, limit)
    assert _matches(world, when, limit, Finding(Check.CONTENT, "t"))


@pytest.mark.parametrize("name", ["a" * 5000 + ".txt", "*" * 200, "." * 5000])
def test_glob_on_a_hostile_name_answers_at_once(world: Any, name: str) -> None:
    """A pattern of many stars takes no exponential time (the test would not end)."""
    assert not _matches(world, {"attachment": {"name": "*a*a*a*a*a*a*a*a*a*b"}}, _attachment(name))


def test_regex_on_a_hostile_header_answers_at_once(world: Any) -> None:
    """The expression engine is linear: nested repetition on a long subject ends."""
    when = {"header": {"name": "Subject", "matches": "^(a+)+$"}}
    assert not _matches(world, when, _header("subject", "a" * 50_000 + "b"))


def _value(marks: tuple[str, ...], count: int = 1, sightings: int = 1) -> Finding:
    return Finding(Check.CONTENT, "t", count=count, marks=marks, sightings=sightings)


def test_content_in_a_part_counts_only_there(world: Any) -> None:
    """A value that stands in several places stands in each of them."""
    when = {"content": {"types": "t", "part": ["subject", "attachment"]}}
    assert _matches(world, when, _value(("body", "subject")))
    assert not _matches(world, when, _value(("body",)))


def test_content_counts_values_or_sightings(world: Any) -> None:
    """Three sightings of one value are one, unless distinct is off."""
    assert not _matches(world, {"content": {"types": "t", "count": 3}}, _value(("body",), sightings=3))
    assert _matches(world, {"content": {"types": "t", "count": 3, "distinct": False}}, _value(("body",), sightings=3))


def test_content_near_another_type(world: Any) -> None:
    """Only matches that the check has marked for this very question count."""
    when = {"content": {"types": "t", "near": {"type": "u", "within": 50, "confidence": "medium"}}}
    assert _matches(world, when, _value(("body", "near u 50 medium")))
    assert not _matches(world, when, _value(("body", "near u 80 medium")))
    assert not _matches(world, when, _value(("body",)))


def test_content_without_what_is_quoted(world: Any) -> None:
    """A value that is quoted only does not count."""
    when = {"content": {"types": "t", "exclude": {"quoted": True}}}
    assert _matches(world, when, _value(("body",)), _value(("body", "quoted")))
    assert not _matches(world, when, _value(("body", "quoted")))


BOTH_FORMS = {"u-label": "bücher.example", "a-label": "xn--bcher-kva.example", "upper": "BÜCHER.example"}


@pytest.mark.parametrize("written", BOTH_FORMS.values(), ids=BOTH_FORMS)
@pytest.mark.parametrize("arrives", BOTH_FORMS.values(), ids=BOTH_FORMS)
def test_a_domain_in_its_other_form_once_slipped_past_the_rule(world: Any, written: str, arrives: str) -> None:
    """U-label and A-label are one name (RFC 5890), in rules, in patterns and in what the client says."""
    for pattern in (f"ann@{written}", f"*@{written}", f"*.{written.partition('.')[0]}.example"):
        sender = f"Ann@{arrives}" if "@" in pattern else f"ann@a.{arrives}"
        assert _matches(world, {"sender": {"address": pattern}}, sender=sender)
    assert _matches(world, {"sender": {"domain": written}}, sender=f"ann@{arrives}")
    assert _matches(world, {"recipient": {"domain": [f"*.{written}"]}}, to=world.to(f"b@mail.{arrives}"))
    assert _matches(world, {"recipient": {"address": f"b@{written}"}}, to=world.to(f"B@{arrives}"))
    assert not _matches(world, {"recipient": {"domain": written}}, to=world.to("b@bucher.example"))
