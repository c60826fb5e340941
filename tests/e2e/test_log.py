"""What the log says of mail from a hostile sender, and what it never says."""

import re
import socket

from tests.e2e.letters import CLERK, EVERYONE, MAYOR, letter, mark, named
from tests.e2e.running import CityGateway, Sink, greets, until

LINE = re.compile(r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (debug|info|warning|error) [a-z]")


def _talk(port: int, *lines: bytes) -> list[bytes]:
    """Raw octets, line by line; the answers."""
    answers = []
    with socket.create_connection(("127.0.0.1", port), 10) as sock, sock.makefile("rb") as replies:
        replies.readline()
        for line in lines:
            sock.sendall(line)
            while (answer := replies.readline())[3:4] == b"-":
                pass
            answers.append(answer)
    return answers


def test_hostile_values_cannot_write_log_lines(city: CityGateway, sink: Sink) -> None:
    """HELO, addresses and Message-ID with escapes, quotes and line breaks, plain and encoded: one line, no more."""
    name = mark("hostile")
    forged = "2026-01-01T00:00:00.000Z info message id=FORGED"
    content = (
        f'X-First: {name}\r\nMessage-ID: <{name}\x1b[31m\u2028\u202e\x85{forged}\r\n\t {forged}" x="@evil>\r\n'
        f"Subject: =?utf-8?q?secret=0D=0A{forged.replace(' ', '_')}?=\r\n"
        f"From: =?utf-8?b?DQpJbmplY3RlZDogeWVz?= <{CLERK}>\r\n\r\nx\r\n.\r\n"
    ).encode()
    answers = _talk(
        city.port,
        b"EHLO \x1b]0;owned\x07\xe2\x80\xa8host\r\n",
        b'MAIL FROM:<"cl\\"e rk=1"@city.example> SMTPUTF8\r\n',
        "RCPT TO:<mayör\u202e@city.example>\r\n".encode(),
        f"RCPT TO:<{MAYOR}>\r\n".encode(),
        b"DATA\r\n",
        content,
    )
    assert answers[-1].startswith(b"250"), answers
    sink.wait(named(name))
    line = city.line_of(name)
    for bad in ("\x1b", "\u2028", "\u202e", "\x85", "\x07"):
        assert bad not in city.log
    for row in city.log.splitlines():
        assert LINE.match(row), f"not one of ours: {row!r}"
        assert not row.startswith("2026-01-01")
    assert line.count("id=FORGED") == line.count("FORGED")
    assert city.log.count(f"<{name}") == 1
    assert "Injected: yes" not in city.log


def test_log_and_disk_never_hold_subject_or_content(city: CityGateway, sink: Sink) -> None:
    """A word of a held message's body is in no file of ours in clear; one of a subject is not in the log."""
    name, body, subject = mark("quiet"), mark("bodyword"), mark("subjectword")
    held = letter(name, f"{body}\n" * 30_000, subject=subject)
    assert city.send(CLERK, [EVERYONE, MAYOR], held).startswith("250 2.0.0 Accepted, held")
    sink.wait(named(name))
    until(lambda: list((city.folder / "spool").iterdir()) == [], 10)
    assert greets(city.port)
    for path in city.folder.rglob("*"):
        if path.is_file():
            octets = path.read_bytes()
            assert body.encode() not in octets, path
            if path.suffix == ".log":
                assert subject.encode() not in octets, path
    line = city.line_of(f"<{name}@test.example>")
    for key in ("id=", "client=127.0.0.1", f"from=<{CLERK}>", "size=", "disposition=hold", "rules=all-city-approval",
                "total_ms=", "store_ms="):  # fmt: skip
        assert key in line
    assert city.log.count(f"<{name}@test.example>") == 1
