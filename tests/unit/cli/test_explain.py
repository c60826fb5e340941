"""``civicgate explain`` with the shipped rules, a message for each control: what, why."""

import contextlib
import functools
import io
import json
import re
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.app import load_policy
from gateway.checks import inspector
from gateway.checks.scanner import Scanner
from gateway.cli import explain as module
from gateway.cli.main import main
from gateway.pipeline.recipients import ROUTED
from gateway.pipeline.transaction import LOOP
from gateway.settings import Settings
from tests.unit.front.asking import RULES

SSN, CARD = "536-90-4399", "4111 1111 1111 1111"
HEAD = "From: clerk@city.example\r\nTo: x@other.example\r\nMIME-Version: 1.0\r\n"
Explain = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def rules_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped rules but those on viruses."""
    folder = tmp_path_factory.mktemp("explained") / "rules"
    shutil.copytree("rules", folder, ignore=shutil.ignore_patterns("virus"))
    return folder


@pytest.fixture(scope="module", autouse=True)
def _loaded_once() -> Iterator[None]:
    """Rules that were read and types that were compiled are kept: it is what is said of them that is tested here."""
    policies: dict[Path, Any] = {}
    scanner = functools.cache(Scanner)

    def load(settings: Settings) -> Any:
        if settings.policy.rules not in policies:
            policies[settings.policy.rules] = load_policy(settings)
        return policies[settings.policy.rules]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "load_policy", load)
        patch.setattr(inspector, "Scanner", lambda types: scanner(tuple(types)))
        yield


@pytest.fixture
def explain(tmp_path: Path, rules_folder: Path, capsys: pytest.CaptureFixture[str]) -> Explain:
    """Run «civicgate explain» on a message with all rules but those on viruses; with those, clamd is away."""
    config = tmp_path / "gateway.yaml"
    config.write_text(
        f"store: {{directory: {tmp_path}/store, key_file: {tmp_path}/store/key}}\n"
        f"clamd: {{address: 'unix:{tmp_path}/no.sock'}}\n"
        f"policy: {{rules: {rules_folder}, directory: config/directory.yaml}}\n",
        "utf-8",
    )

    def run(message: str | bytes, *words: str, viruses: bool = False) -> tuple[int, str, str]:
        if viruses:
            config.write_text(config.read_text("utf-8").replace(str(rules_folder), "rules"), "utf-8")
        file = tmp_path / "m.eml"
        file.write_bytes(message if isinstance(message, bytes) else message.encode())
        code = main(["--config", str(config), "explain", str(file), *words])
        out, err = capsys.readouterr()
        return code, out, err

    return run


OUT = ("--from", "clerk@city.example", "--to", "x@other.example")
_MULTIPART = (
    HEAD + "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nhello\r\n--b\r\n"
    "Content-Type: application/octet-stream; name=a.exe\r\nContent-Disposition: attachment; filename=a.exe\r\n"
    "Content-Transfer-Encoding: base64\r\n\r\nTVqQAAMAAAAEAAAA//8AALgAAAAAAAAAQAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n--b--\r\n"
)


@pytest.mark.parametrize(
    ("message", "words", "expected"),
    [
        (HEAD + f"\r\nMy number is SSN {SSN}.\r\n", OUT,
         ["content: us-ssn", "confidential-leaves-encrypted", "pass, changed: ", "encrypt"]),
        (HEAD + f"\r\nCard {CARD} please\r\n", OUT, ["content: payment-card", "encrypt"]),
        (_MULTIPART, OUT, ["attachment:", "executable-attachments: fires", "hold"]),
        (HEAD + "\r\nhello\r\n", ("--from", "clerk@city.example", "--to", "everyone@city.example"),
         ["all-city-approval", "hold", "held in «all-city»", "250 2.0.0 Accepted, held"]),
        (HEAD + "\r\nhello\r\n", ("--from", "contractor@city.example", "--to", "x@other.example"),
         ["contractor-signature-block"]),
        (HEAD + "\r\nhello\r\n", ("--from", "someone@other.example", "--to", "clerk@city.example"),
         ["(outside)", "<clerk@city.example>: pass"]),
        (HEAD + "Content-Type: multipart/mixed\r\n\r\nno boundary\r\n", OUT, ["structure:"]),
    ],
    ids=["ssn", "card", "attachment", "list", "contractor", "inbound", "structure"],
)  # fmt: skip
def test_each_control_is_explained(explain: Explain, message: str, words: tuple[str, ...], expected: list[str]) -> None:
    """Text and JSON name what was found, the rule and the reply; social security and card numbers are never shown."""
    code, out, err = explain(message, *words)
    assert (code, err) == (0, "")
    for part in expected:
        assert part in out, out
    code, plain, _ = explain(message, *words, "--json", "--all")
    read = json.loads(plain)
    assert set(read) == {"reply", "refused", "failures", "findings", "groups", "rules"}
    _, everything, _ = explain(message, *words, "--all")
    for text in (out, plain, everything):
        for number in (SSN, SSN.replace("-", ""), CARD, CARD.replace(" ", "")):
            assert number not in text
        assert "1111 1111" not in text
        assert "536-90" not in text


def test_a_control_that_fails_is_told_with_what_the_client_would_read(explain: Explain) -> None:
    """Clamd is away: the failure, the rule that is undecided, and its reply."""
    code, out, _ = explain(HEAD + "\r\nhello\r\n", *OUT, viruses=True)
    assert code == 0
    assert "Control virus failed (unavailable)" in out
    assert "virus-found: undecided" in out
    assert "\n  451 4.7.1 " in out


def test_the_end_of_a_number_may_be_shown(explain: Explain) -> None:
    """Redacted evidence helps to find the place: the last four digits, no more."""
    _, out, _ = explain(HEAD + f"\r\nMy number is SSN {SSN}.\r\n", *OUT)
    assert "4399" in out


def test_the_null_sender_is_outside_unless_the_client_is_inside(explain: Explain) -> None:
    """A bounce is taken to come from outside; --client says otherwise."""
    _, out, _ = explain(HEAD + "\r\nbounce\r\n", "--from", "<>", "--to", "clerk@city.example")
    assert "from <> (outside)" in out
    _, out, _ = explain(HEAD + "\r\nb\r\n", "--from", "<>", "--to", "clerk@city.example", "--client", "127.0.0.1")
    assert "from <> (inside)" in out


def test_an_outside_client_may_not_write_outside(explain: Explain) -> None:
    """What the gateway would refuse at RCPT is said, with exit code 1."""
    words = ("--from", "clerk@city.example", "--to", "x@other.example", "--client", "192.0.2.9")
    code, out, err = explain(HEAD + "\r\nhello\r\n", *words)
    assert (code, out) == (1, "")
    assert err == (
        "The gateway would refuse x@other.example, the client being outside: "
        "550 5.7.1 This gateway relays only for the city\n"
    )


@pytest.mark.parametrize("written", ['"everyone"@city.example', "EveryOne+x@CITY.example", "<everyone@city.example>"])
def test_an_address_is_read_as_the_gateway_reads_it(explain: Explain, written: str) -> None:
    """Quotes and a detail once made a list a stranger to «explain», which said pass where the gateway holds."""
    _, out, _ = explain(HEAD + "\r\nhello\r\n", "--from", "clerk@city.example", "--to", written)
    assert "held in «all-city»" in out
    _, out, _ = explain(HEAD + "\r\nhello\r\n", "--from", "contractor+x@city.example", *OUT[2:])
    assert "contractor-signature-block: fires" in out


@pytest.mark.parametrize(
    ("written", "reply"),
    [("a%b@city.example", "550 5.7.1 "), ("a@[127.0.0.1]", "550 5.1.2 "), ("a b@city.example", "553 5.1.3 ")],
)
def test_what_the_gateway_refuses_is_not_explained_as_passing(explain: Explain, written: str, reply: str) -> None:
    """Routes, address literals and what is no address end in the reply that the client would read."""
    code, out, err = explain(HEAD + "\r\nhello\r\n", "--from", "clerk@city.example", "--to", written)
    assert (code, out) == (1, "")
    assert reply in err


class _Server:
    """A next hop that says EHLO and QUIT, in a thread; it keeps what it was told."""

    def __init__(self) -> None:
        self.said: list[bytes] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> "_Server":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self._socket.accept()
                with peer, peer.makefile("rb") as lines:
                    peer.sendall(b"220 mail.city.example ESMTP\r\n")
                    for line in lines:
                        self.said.append(line)
                        peer.sendall(b"250 Mail.City.example greets\r\n")


@pytest.mark.parametrize("front", ["smtp", "milter"])
@pytest.mark.parametrize("host", ["mail.CITY.example", "gate.city.example", "localhost"])
def test_a_route_through_a_server_of_ours_is_refused_as_the_gateway_refuses_it(
    explain: Explain, tmp_path: Path, host: str, front: str
) -> None:
    """It said pass where the gateway says 550: it did not know what the next hop and the gateway call themselves."""
    with _Server() as server, (tmp_path / "gateway.yaml").open("a", encoding="utf-8") as config:
        config.write(f"next_hop: {{address: '127.0.0.1:{server.port}'}}\nsmtp: {{hostname: gate.city.example}}\n")
        if front == "milter":
            config.write("listeners: []\nmilter: {listeners: [{name: beside, address: '127.0.0.1:11900'}]}\n")
        config.flush()
        for local in ("everyone%city.example", "city.example!everyone", '"everyone@city.example"'):
            words = ("--from", "clerk@city.example", "--to", f"{local}@{host}")
            code, out, err = explain(HEAD + "\r\nhello\r\n", *words)
            assert (code, out) == (1, "")
            assert err.endswith(f"{ROUTED}\n")
        said = len(server.said)
        code, out, err = explain(HEAD + "\r\nhello\r\n", *OUT[:3], "100%wool@elsewhere.example")
        assert (code, err) == (0, "")
        assert "<100%wool@elsewhere.example>: pass" in out
        assert len(server.said) > said
        said = len(server.said)
        assert explain(HEAD + "\r\nhello\r\n", *OUT)[0] == 0
    assert len(server.said) == said, "asked for nothing"
    assert {line.split()[0] for line in server.said} <= {b"EHLO", b"QUIT"}


def test_a_next_hop_that_cannot_be_asked_is_told(explain: Explain, tmp_path: Path) -> None:
    """Nobody is left in the belief that a route through its name passes."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with (tmp_path / "gateway.yaml").open("a", encoding="utf-8") as config:
        config.write(f"next_hop: {{address: '127.0.0.1:{port}'}}\n")
    code, out, err = explain(HEAD + "\r\nhello\r\n", *OUT[:3], "everyone%city.example@mail.city.example")
    assert code == 0
    assert "mail.city.example>: " in out
    assert err.startswith("A route through the next hop's own name would be refused, but its name is not known: ")


def test_a_mail_server_that_asks_has_decided_who_may_relay(explain: Explain, tmp_path: Path) -> None:
    """With milter listeners alone, somebody who logged in from outside is not refused by the gateway."""
    with (tmp_path / "gateway.yaml").open("a", encoding="utf-8") as config:
        config.write("listeners: []\nmilter: {listeners: [{name: beside, address: '127.0.0.1:11900'}]}\n")
    code, out, err = explain(HEAD + "\r\nhello\r\n", *OUT, "--client", "192.0.2.9")
    assert (code, err) == (0, "")
    assert "<x@other.example>: pass" in out


EARLY = RULES["blocked"]
REFUSED = "550 5.1.1 Nobody is here. Policy milwaukee/encrypted-email [blocked]"


def _only(tmp_path: Path, rule: str, more: str = "") -> None:
    """The settings with this one rule in place of all."""
    folder = tmp_path / "one"
    folder.mkdir()
    (folder / "one.yaml").write_text(rule, "utf-8")
    config = tmp_path / "gateway.yaml"
    shown = re.sub(r"rules: [^,]+,", f"rules: {folder},", config.read_text("utf-8"))
    config.write_text(shown + more, "utf-8")


def test_who_is_refused_at_rcpt_does_not_refuse_the_others(explain: Explain, tmp_path: Path) -> None:
    """The gateway refuses one recipient and takes the message for the other; named twice is named once."""
    _only(tmp_path, EARLY)
    to = ("--to", "nobody@city.example", "--to", "clerk@city.example", "--to", "clerk@CITY.example")
    code, out, err = explain(HEAD + "\r\nhello\r\n", "--from", "a@city.example", *to)
    assert (code, err) == (0, "")
    assert f"Outcome\n  <nobody@city.example>: refused at RCPT: {REFUSED}\n  <clerk@city.example>: pass\n" in out
    assert out.endswith("Reply to the client\n  250 (the next hop's reply)\n")
    read = json.loads(explain(HEAD + "\r\nhello\r\n", "--from", "a@city.example", *to, "--json")[1])
    assert [row["recipient"] for row in read["refused"]] == ["nobody@city.example"]
    assert [group["recipients"] for group in read["groups"]] == [["clerk@city.example"]]
    code, out, _ = explain(HEAD + "\r\nhello\r\n", "--from", "a@city.example", *to[:2])
    assert out.endswith(f"Reply to the client\n  {REFUSED}\n")
    assert ": reject" not in out


@pytest.mark.parametrize(
    ("more", "message", "reply"),
    [
        ("smtp: {max_message_size: 200 B}\n", HEAD + "\r\n" + "x" * 200 + "\r\n",
         "552 5.3.4 The message is larger than this gateway takes (200 octets)"),
        ("", "Received: by a.example\r\n" * 101 + "\r\nhello\r\n", str(LOOP)),
    ],
    ids=["size", "loop"],
)  # fmt: skip
def test_the_gateways_own_limits_come_before_the_rules(
    explain: Explain, tmp_path: Path, more: str, message: str, reply: str
) -> None:
    """What no rule refuses the gateway may refuse all the same; it said that it would pass."""
    _only(tmp_path, EARLY, more)
    code, out, err = explain(message, *OUT)
    assert (code, err) == (0, "")
    assert out.endswith(
        f"Outcome\n  the content is refused, whatever the rules say\n\nReply to the client\n  {reply}\n"
    )


def test_standard_input_is_read(explain: Explain, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    """A minus is standard input; bare LF becomes CR LF as SMTP would have it."""

    class Input:
        buffer = io.BytesIO(b"Subject: x\n\nhello\n")

    monkeypatch.setattr("sys.stdin", Input())
    explain(b"", *OUT)
    capsys.readouterr()
    assert main(["--config", str(tmp_path / "gateway.yaml"), "explain", "-", *OUT]) == 0
    assert f"Message of {len(b'Subject: x..' + b'..hello..')} octets" in capsys.readouterr().out


def test_a_file_that_is_not_there(explain: Explain, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line on standard error, exit code 1."""
    explain(b"", *OUT)
    capsys.readouterr()
    assert main(["--config", str(tmp_path / "gateway.yaml"), "explain", str(tmp_path / "no.eml"), *OUT]) == 1
    assert capsys.readouterr().err == f"{tmp_path}/no.eml cannot be read: No such file or directory\n"


def test_nothing_is_changed_by_a_question(explain: Explain, tmp_path: Path) -> None:
    """No store is made, nothing is written."""
    explain(HEAD + "\r\nhello\r\n", *OUT)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gateway.yaml", "m.eml"]


def test_rules_that_do_not_fire_are_counted_or_shown(explain: Explain) -> None:
    """--all shows the conditions of every rule; without it there is a number."""
    _, out, _ = explain(HEAD + "\r\nhello\r\n", *OUT)
    assert "more do not fire (--all shows them)" in out
    _, everything, _ = explain(HEAD + "\r\nhello\r\n", *OUT, "--all")
    assert "does not" in everything
    assert len(everything.splitlines()) > len(out.splitlines())


def test_hostile_names_do_not_reach_the_terminal(explain: Explain) -> None:
    """A file name with an escape sequence is shown without it."""
    message = _MULTIPART.replace("filename=a.exe", 'filename="a\x1b[2J\u202e.exe"')
    code, out, _ = explain(message, *OUT, "--all")
    assert code == 0
    assert "\x1b" not in out
    assert "\u202e" not in out
