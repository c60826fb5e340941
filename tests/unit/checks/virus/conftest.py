"""A real clamd on our tiny database for the whole room, and the mail that it is asked about."""

import base64
import io
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deploy.dev.clamd import TINY_DATABASE, clamd_program, running_clamd
from gateway.checks.virus import VirusScanner
from gateway.settings import ClamdSettings
from tests.ports import free_port

MakeScanner = Callable[..., VirusScanner]


@dataclass(frozen=True)
class Clamd:
    """Where the room's clamd listens."""

    unix: str
    tcp: str


@pytest.fixture(scope="session")
def clamd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clamd]:
    """A running clamd with the shipped configuration."""
    if clamd_program() is None:
        pytest.skip("clamd is not installed")
    directory = tmp_path_factory.mktemp("clamd")
    port = free_port()
    with running_clamd(directory, database=TINY_DATABASE, tcp_port=port) as path:
        yield Clamd(f"unix:{path}", f"127.0.0.1:{port}")


@pytest.fixture
async def make_scanner() -> AsyncIterator[MakeScanner]:
    """Makes scanners from an address and settings, and closes them."""
    made: list[VirusScanner] = []

    def make(address: str | Path, **settings: Any) -> VirusScanner:
        text = f"unix:{address}" if isinstance(address, Path) else address
        made.append(VirusScanner(ClamdSettings(address=text, **settings)))
        return made[-1]

    yield make
    for scanner in made:
        await scanner.close()


@pytest.fixture(scope="session")
def eicar() -> bytes:
    """The EICAR test file (eicar.org), assembled here because virus scanners delete files that hold it."""
    return b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$" + b"-".join([b"EICAR", b"STANDARD", b"ANTIVIRUS", b"TEST", b"FILE!$H+H*"])


@pytest.fixture(scope="session")
def zipped() -> Callable[..., bytes]:
    """Zips octets, ``times`` zips around each other."""

    def pack(data: bytes, times: int = 1) -> bytes:
        for level in range(times):
            out = io.BytesIO()
            with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr(f"level{level}.bin", data)
            data = out.getvalue()
        return data

    return pack


@pytest.fixture(scope="session")
def mail() -> Callable[..., bytes]:
    """A message with a text and, when given, one base64 attachment."""

    def build(text: bytes = b"Good morning", attachment: bytes | None = None, name: str = "file.bin") -> bytes:
        head = b"From: a@city.example\r\nTo: b@city.example\r\nSubject: test\r\nMIME-Version: 1.0\r\n"
        if attachment is None:
            return head + b"Content-Type: text/plain\r\n\r\n" + text + b"\r\n"
        rows = base64.encodebytes(attachment).replace(b"\n", b"\r\n")
        return (
            head
            + b"Content-Type: multipart/mixed; boundary=cut\r\n\r\n--cut\r\nContent-Type: text/plain\r\n\r\n"
            + text
            + b"\r\n--cut\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n"
            + f'Content-Disposition: attachment; filename="{name}"\r\n\r\n'.encode()
            + rows
            + b"--cut--\r\n"
        )

    return build
