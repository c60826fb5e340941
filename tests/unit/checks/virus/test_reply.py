"""clamd's replies: only its plain OK is clean, everything unclear is an error with the right reason."""

import re

import clamd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.checks.virus.reply import read_reply, shown
from gateway.errors import ControlError

PLAIN = re.compile(rb"(fd\[\d+\]|stream): OK")


@pytest.mark.parametrize("reply", [b"stream: OK", b"fd[10]: OK", b"fd[3]: OK"])
def test_clean(reply: bytes) -> None:
    """Clamd's OK is None."""
    assert read_reply(reply) is None


@pytest.mark.parametrize(
    ("reply", "name"),
    [
        (b"stream: Eicar-Test-Signature FOUND", "Eicar-Test-Signature"),
        (b"fd[10]: Win.Test.EICAR_HDB-1 FOUND", "Win.Test.EICAR_HDB-1"),
        (b"fd[1]: Civicgate.Test.Body.UNOFFICIAL FOUND", "Civicgate.Test.Body.UNOFFICIAL"),
        (b"stream: Eicar(44d88612fea8a8f36de82e1278abb02f:68) FOUND", "Eicar"),
        (b"stream: Heuristics.Encrypted.Zip FOUND", "Heuristics.Encrypted.Zip"),
        (b"stream: Heuristics.Phishing.Email.SpoofedDomain FOUND", "Heuristics.Phishing.Email.SpoofedDomain"),
    ],
)
def test_found(reply: bytes, name: str) -> None:
    """A found signature is its name, without the hash that ExtendedDetectionInfo adds."""
    assert read_reply(reply) == name


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (b"fd[10]: Heuristics.Limits.Exceeded.MaxRecursion FOUND", "limit"),
        (b"fd[10]: Heuristics.Limits.Exceeded FOUND", "limit"),
        (b"fd[10]: Heuristics.XZ.DicSizeLimit FOUND", "limit"),
        (b"INSTREAM size limit exceeded. ERROR", "limit"),
        (b"stream: Exceeded time limit ERROR", "limit"),
        (b"fd[10]: Exceeded max recursion depth ERROR", "limit"),
        (b"fd[10]: lstat() failed: No such file or directory. ERROR", "crashed"),
        (b"stream: Can't allocate memory ERROR", "crashed"),
        (b"stream: Can't create temporary file ERROR", "crashed"),
        (b"No file descriptor received. ERROR", "crashed"),
        (b"UNKNOWN COMMAND", "protocol"),
        (b"COMMAND READ TIMED OUT\n", "protocol"),
        (b"", "protocol"),
        (b"OK", "protocol"),
        (b"stream: OK ", "protocol"),
        (b"stream: OK\n", "protocol"),
        (b"stream: ok", "protocol"),
        (b"stream:  FOUND", "protocol"),
        (b"stream: Two Words FOUND", "protocol"),
        (b"stream: OKAY", "protocol"),
        (b"/etc/passwd: OK", "protocol"),
        (b"\xff\xfe stream: OK", "protocol"),
        (b"250 2.0.0 OK", "protocol"),
    ],
)
def test_anything_else(reply: bytes, reason: str) -> None:
    """A limit, an error and nonsense each have their reason; none is clean and none is a virus."""
    with pytest.raises(ControlError) as raised:
        read_reply(reply)
    assert raised.value.reason == reason


def test_number() -> None:
    """In a session a reply counts for the request whose number it bears, and for no other."""
    assert read_reply(b"7: stream: OK", 7) is None
    for reply in (b"stream: OK", b"6: stream: OK", b"77: stream: OK", b"7:stream: OK"):
        with pytest.raises(ControlError) as raised:
            read_reply(reply, 7)
        assert raised.value.reason == "protocol"
    with pytest.raises(ControlError):
        read_reply(b"7: stream: OK")


@given(st.binary(max_size=60) | st.from_regex(r"(fd\[1\]|stream): [ -~]{0,20}(OK|FOUND|ERROR)?", fullmatch=True))
def test_never_clean_by_accident(reply: bytes | str) -> None:
    """Whatever the octets: clean only for the plain OK, else a name or a ControlError with a stable reason."""
    octets = reply if isinstance(reply, bytes) else reply.encode()
    name, failure = outcome(octets)
    assert failure is None or failure.reason in {"limit", "crashed", "protocol"}
    assert failure is None or failure.detail.isprintable()
    assert (name is None and failure is None) == bool(PLAIN.fullmatch(octets))


def outcome(reply: bytes) -> tuple[str | None, ControlError | None]:
    """The name, or the error."""
    try:
        return read_reply(reply), None
    except ControlError as error:
        return None, error


@given(st.from_regex(r"(fd\[[0-9]{1,3}\]|stream): ([A-Za-z0-9.\-_]{1,40} FOUND|OK)", fullmatch=True))
def test_agrees_with_the_clamd_package(reply: str) -> None:
    """On well-formed replies the ``clamd`` package reads the same."""
    _, virus, status = clamd.scan_response.match(reply).group("path", "virus", "status")
    assert read_reply(reply.encode()) == (virus if status == "FOUND" else None)


def test_shown_is_safe() -> None:
    """A hostile reply cannot put line breaks, escapes or a flood into the log."""
    text = shown(b"a\r\nb\x1b[31m\xff" + b"x" * 5000)
    assert text.isprintable()
    assert len(text) <= 122
