"""A server certificate for tests of TLS."""

import subprocess
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for gateway.city.example and its key, by openssl."""
    folder = tmp_path_factory.mktemp("certificate")
    file, key = folder / "server.pem", folder / "server.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=gateway.city.example", "-addext", "subjectAltName=DNS:gateway.city.example",
         "-keyout", str(key), "-out", str(file)],
        capture_output=True, check=True, timeout=30,
    )  # fmt: skip
    return file, key
