"""What a receiver says of the message that it kept."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.front.receiver import Receiver
from gateway.mime.lineends import LineEnds, line_ends
from gateway.mime.parser import parse
from gateway.model.reply import Reply
from gateway.spool import SpooledMessage, SpoolWriter
from gateway.wire.data import BdatDecoder, DataDecoder

_TOO_LARGE = Reply.of(552, "5.3.4", "Too large")
_PIECES = st.sampled_from((b"\r\n", b"\r", b"\n", b"\0", b"a", b".", b"\r\n.", b"bc"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a message lies that does not stay in memory."""
    return tmp_path_factory.mktemp("spool")


@pytest.mark.parametrize("memory", [1000, 3], ids=["in-memory", "in-a-file"])
@pytest.mark.parametrize("normalise", [False, True], ids=["refusing", "repairing"])
@pytest.mark.parametrize("decoder", [DataDecoder, BdatDecoder], ids=["data", "bdat"])
@settings(max_examples=150, deadline=None)
@given(chunks=st.lists(st.lists(_PIECES, max_size=6).map(b"".join), max_size=6))
def test_a_message_that_is_kept_is_disciplined(
    folder: Path, decoder: Callable[..., DataDecoder | BdatDecoder], normalise: bool, memory: int, chunks: list[bytes]
) -> None:
    """However its octets were cut: no bare CR, no bare LF, no NUL, so that parsing needs not look for them."""
    receiver = Receiver(SpoolWriter(folder, "t", memory), decoder(normalise=normalise), 10_000, _TOO_LARGE, 0.0)
    if decoder is BdatDecoder:
        for chunk in chunks:
            receiver.bdat(chunk)
    else:
        for chunk in (*chunks, b"\r\n.\r\n"):
            if receiver.data(chunk) is not None:
                break
    message = receiver.finish()
    if message is None:
        assert receiver.refusal is not None
        assert not normalise
        return
    content, disciplined = bytes(message.buffer), message.disciplined
    message.close()
    assert disciplined
    found = line_ends(content)
    assert found._replace(pair=False) == LineEnds(nul=False, bare_cr=False, bare_lf=False, pair=False)
    assert parse(content, disciplined=True) == parse(content)


def test_what_comes_from_elsewhere_is_looked_at(tmp_path: Path) -> None:
    """A file, or octets in memory, are not taken to be disciplined: nobody has checked their lines."""
    path = tmp_path / "message.eml"
    path.write_bytes(b"Subject: a\n\nb\n")
    mapped = SpooledMessage.of_file(path)
    assert not mapped.disciplined
    mapped.close()
    assert not SpooledMessage.of(b"Subject: a\n\nb\n").disciplined
    assert not SpoolWriter(tmp_path, "t", 10).close().disciplined
