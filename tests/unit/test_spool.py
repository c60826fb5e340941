"""The spool: in memory while small, else a file; immutable, and nothing stays behind."""

import hashlib
import mmap
import os
from pathlib import Path

import pytest

from gateway.errors import StoreError
from gateway.settings import SpoolSettings
from gateway.spool import Spool, SpooledMessage


def make(folder: Path, memory: int = 1000) -> Spool:
    """A spool that has its folder."""
    spool = Spool(SpoolSettings(directory=folder, memory=memory))
    spool.prepare()
    return spool


@pytest.mark.parametrize("size", [0, 1, 1000, 1001, 300_000])
def test_what_is_written_is_read(tmp_path: Path, size: int) -> None:
    """Octets, size and digest are those that were written, on either side of the memory limit."""
    content = os.urandom(size)
    writer = make(tmp_path).new("T1")
    for start in range(0, size, 377):
        writer.write(content[start : start + 377])
    message = writer.close()
    assert (message.size, bytes(message.buffer)) == (size, content)
    assert b"".join(bytes(piece) for piece in message.chunks(step=1000)) == content
    assert message.sha256() == hashlib.sha256(content).hexdigest()
    assert isinstance(message.buffer, mmap.mmap) == (size > 1000) == (message.path is not None)
    assert os.pread(message.fileno(), size + 1, 0) == content
    message.close()
    message.close()
    assert list(tmp_path.iterdir()) == []


def test_an_abort_leaves_nothing(tmp_path: Path) -> None:
    """A client that goes away in the middle costs no disk."""
    writer = make(tmp_path).new("T1")
    writer.write(b"x" * 5000)
    assert len(list(tmp_path.iterdir())) == 1
    writer.abort()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_a_store_error_and_leaves_nothing(tmp_path: Path) -> None:
    """The client gets 451 and may come back; /dev/full answers every write with ENOSPC."""
    spool = make(tmp_path)
    writer = spool.new("T1")
    writer.write(b"x" * 900)
    writer._folder = tmp_path / "missing"
    with pytest.raises(StoreError, match="cannot create"):
        writer.write(b"x" * 900)
    fd = os.open("/dev/full", os.O_WRONLY)
    writer._fd, writer._path = fd, tmp_path / "x.eml"
    with pytest.raises(StoreError, match="No space left"):
        writer.write(b"x")


def test_a_start_sweeps_what_a_crash_left(tmp_path: Path) -> None:
    """Old files go, files of living transactions stay."""
    old, new = tmp_path / "old.eml", tmp_path / "new.eml"
    old.write_bytes(b"x")
    new.write_bytes(b"x")
    os.utime(old, (1, 1))
    make(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["new.eml"]


def test_a_mapped_file_of_somebody_else_is_not_removed(tmp_path: Path) -> None:
    """``of_file`` reads; it does not own."""
    path = tmp_path / "mine"
    path.write_bytes(b"content")
    message = SpooledMessage.of_file(path)
    assert bytes(message.buffer) == b"content"
    message.close()
    assert path.exists()
