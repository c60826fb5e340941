"""A day's mail of a city hall, against all shipped rules: what is ordinary passes, and passes untouched.

One file a message, in ``ordinary/``. The beginning of its name says whose it is: ``in-`` from outside, ``out-`` to the
outside, ``internal-`` between colleagues, ``null-`` from the null reverse-path; ``…-contractor-`` from a contractor.
What shall not simply pass stands in ``EXPECTED``, with why.
"""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.app import load_policy
from gateway.checks.passive import Means, inspect
from gateway.checks.reading.attachments import open_reader
from gateway.checks.scanner import Scanner
from gateway.directory import Directory
from gateway.model.envelope import Client, Direction, Envelope, Recipient
from gateway.model.finding import Findings
from gateway.model.verdict import Verdict
from gateway.policy import RuleSet, decide
from gateway.settings import Settings, load_settings

FOLDER = Path(__file__).parent / "ordinary"
MESSAGES = sorted(FOLDER.glob("*.eml"))
OUTSIDE, INSIDE = "stranger@elsewhere.example", "clerk@city.example"
EXPECTED: dict[str, tuple[str, ...]] = {}
"""File name without ending to the rules that are right to match."""
Policy = tuple[RuleSet, Directory, Scanner, Settings]


@pytest.fixture(scope="module")
def policy() -> Policy:
    """The shipped rules, directory, types and settings."""
    settings = load_settings(Path("config/gateway.yaml"))
    rules, directory, types = load_policy(settings)
    return rules, directory, Scanner(types), settings


def parties(name: str) -> tuple[str, str, Direction]:
    """Reverse-path, recipient and direction by a file's name."""
    contractor = "-contractor-" in name
    kind = name.partition("-")[0]
    sender, recipient, direction = {
        "in": (OUTSIDE, INSIDE, Direction.INBOUND),
        "null": ("", INSIDE, Direction.INBOUND),
        "out": (INSIDE, OUTSIDE, Direction.OUTBOUND),
        "internal": ("mayor@city.example", INSIDE, Direction.INTERNAL),
    }[kind]
    return ("contractor@city.example" if contractor else sender), recipient, direction


def judge(path: Path, policy: Policy) -> Verdict:
    """What the gateway would do, clamd aside."""
    rules, directory, scanner, settings = policy
    sender, recipient, direction = parties(path.stem)
    inside = direction is not Direction.INBOUND
    envelope = Envelope(
        "ordinary",
        Client("127.0.0.1" if inside else "192.0.2.1", inside=inside),
        directory.sender(sender),
        (Recipient(recipient, direction, (), directory.lists_of(recipient)),),
    )
    message = path.read_bytes()
    items = inspect(message, envelope, rules.questions, scanner, settings.inspection, Means(readers=open_reader))
    findings = Findings(len(message), items, (), rules.questions.checks)
    return decide(envelope, findings, rules, datetime.now(UTC))


def test_the_collection_is_there() -> None:
    """Small files, many of them, with the line ends of SMTP."""
    assert len(MESSAGES) >= 100
    assert set(EXPECTED) <= {path.stem for path in MESSAGES}
    for path in MESSAGES:
        data = path.read_bytes()
        assert len(data) < 60_000, path.name
        assert data.count(b"\n") == data.count(b"\r\n"), f"{path.name}: checked out with other line ends"


@pytest.mark.parametrize("path", MESSAGES, ids=lambda path: path.stem)
def test_ordinary_mail_passes_untouched(path: Path, policy: Policy) -> None:
    """No rule acts on it, and none counts it, monitoring rules included."""
    (group,) = judge(path, policy).groups
    expected = EXPECTED.get(path.stem, ())
    assert sorted(match.rule for match in group.matches) == sorted(expected)
    if not expected:
        assert (group.disposition, group.transforms) == ("pass", ())
