"""The disk is full, the database or the object store is away: clients read 451, and later all goes on by itself.

Real ones: a small file system of its own, a PostgreSQL and an S3-compatible server that are killed and started again.
The gateway is never restarted.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests import postgresql
from tests.e2e.letters import CLERK, EVERYONE, MAYOR
from tests.e2e.running import ROOT, CityGateway, Nursery, Sink, city_gateway, greets, running_city, until
from tests.faults.test_kill_decisions import RULES
from tests.objects import ObjectServer
from tests.objects import running as running_objects
from tests.postgresql import Cluster

pytestmark = [pytest.mark.real]

OUTBOX = {"claim_timeout": "2 s", "poll_interval": "100 ms", "retry_first": "200 ms", "retry_longest": "500 ms"}
STORE_AWAY = "451 4.3.1"


def letter(name: str, size: int = 500) -> bytes:
    """A message of so many octets that can be found again."""
    return f"From: {CLERK}\r\nMessage-ID: <{name}@outage.example>\r\n\r\n".encode() + b"line of text\r\n" * (size // 14)


@pytest.fixture
def behind() -> Iterator[Sink]:
    """A mail server for one test alone."""
    with Sink() as one:
        yield one


@pytest.fixture
def database() -> Iterator[Cluster]:
    """A PostgreSQL that may be stopped."""
    with postgresql.running() as one:
        yield one


@pytest.fixture
def objects() -> Iterator[ObjectServer]:
    """An object store that may be stopped."""
    with running_objects() as one:
        yield one


def test_database_and_object_store_go_and_come_back(
    tmp_path: Path, nursery: Nursery, behind: Sink, database: Cluster, objects: ObjectServer
) -> None:
    """Each is killed in turn under a gateway with three processes: 451 for what is held, then on by itself."""
    folder = tmp_path / "gateway"
    far = objects.settings(folder / "store", "outages", database.url(database.create()))
    store = far.model_dump(mode="json")
    with running_city(folder, nursery, behind.port, RULES, outbox=OUTBOX, store=store) as gateway:
        assert gateway.send(CLERK, [EVERYONE, MAYOR], letter("before")).startswith("250")
        behind.wait_to(MAYOR, b"<before@")
        for name, server in (("database", database), ("objects", objects)):
            server.stop(signal.SIGQUIT if isinstance(server, Cluster) else signal.SIGKILL)
            assert gateway.send(CLERK, [EVERYONE], letter(f"held-{name}")).startswith(STORE_AWAY)
            assert gateway.send(CLERK, [EVERYONE, MAYOR], letter(f"split-{name}")).startswith(STORE_AWAY)
            expected = STORE_AWAY if server is database else "250"
            until(  # exceptions are in the database; each process knows them for a second
                lambda name=name, expected=expected: gateway.send(  # type: ignore[misc]
                    CLERK, [MAYOR], letter(f"straight-{name}")
                ).startswith(expected),
                15,
                f"without {name}, mail for a person is not answered with {expected}",
            )
            server.start()
            until(
                lambda name=name: gateway.send(CLERK, [EVERYONE, MAYOR], letter(f"again-{name}")).startswith("250"),  # type: ignore[misc]
                60,
                f"{name} is back, and mail is not accepted",
            )
            behind.wait_to(MAYOR, f"<again-{name}@".encode(), seconds=30)
        held = gateway.held()
        assert len(held) >= 3
        assert not behind.having(b"<held-"), "what was refused with 451 is nowhere"
        assert not behind.having(b"<split-")
        for item in held:
            for person in ("it-director@city.example", "communications@city.example"):
                gateway.cli("hold", "approve", item["id"], "--as", person)
        until(lambda: len(behind.to(EVERYONE)) >= len(held), 30, "what was released does not leave")
        assert '"good": true' in gateway.cli("store", "check", "--json")
        assert objects.credentials.read_text().split()[-1] not in gateway.log, "the secret is in no log line"


class OnSmallDisk(CityGateway):
    """A gateway whose store is a file system of 4 MB, in a mount namespace of its own."""

    process: "subprocess.Popen[bytes]"

    def begin(self) -> None:
        """Mount, then run the command there."""
        words = f"mount -t tmpfs -o size=4m,mode=700 tmpfs '{self.store}' && exec \"$@\""
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", words, "sh"]
        command += [sys.executable, "-m", "gateway", "--config", str(self.config), "run"]
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
        until(lambda: greets(self.port), 90, "the gateway does not answer")

    @property
    def inside(self) -> Path:
        """The store as the gateway sees it."""
        return Path(f"/proc/{self.process.pid}/root{self.store}")

    @property
    def enter(self) -> list[str]:
        """Before a command that is to see the store as the gateway does."""
        return ["nsenter", f"--mount=/proc/{self.process.pid}/ns/mnt", f"--wd={ROOT}"]

    def finish(self) -> None:
        """All its processes; the file system goes with the last."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(20)


def fill(path: Path) -> None:
    """Write until nothing more goes on the disk."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"\0" * 4096)


def may_mount() -> bool:
    """Whether a mount namespace can be had here."""
    return (
        os.geteuid() == 0
        and shutil.which("unshare") is not None
        and (subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode == 0)
    )


@pytest.mark.skipif(
    not may_mount(), reason="needs the superuser and mount namespaces; without: RLIMIT_FSIZE in tests/store"
)
def test_a_full_disk(tmp_path: Path, nursery: Nursery, behind: Sink) -> None:
    """No room for the body, then none for the rows: 451, nothing half-written; with room again all goes on."""
    plain = city_gateway(tmp_path / "gateway", nursery, behind.port, RULES, outbox=OUTBOX, workers=1)
    gateway = OnSmallDisk(plain.folder, nursery, plain.port, plain.metrics_port, plain.values)
    gateway.configure()
    gateway.store.mkdir()
    gateway.begin()
    try:
        assert gateway.send(CLERK, [EVERYONE], letter("first")).startswith("250")
        assert gateway.send(CLERK, [EVERYONE], letter("too-large", 6_000_000)).startswith(STORE_AWAY)
        filler = gateway.inside / "filler"
        fill(filler)
        bodies = sorted(path.name for path in (gateway.inside / "bodies").iterdir())
        for number in range(3):
            assert gateway.send(CLERK, [EVERYONE], letter(f"full-{number}")).startswith(STORE_AWAY)
        assert sorted(path.name for path in (gateway.inside / "bodies").iterdir()) == bodies
        assert gateway.send(CLERK, [MAYOR], letter("straight")).startswith("250"), "needs no store"
        filler.unlink()
        assert gateway.send(CLERK, [EVERYONE, MAYOR], letter("last")).startswith("250")
        behind.wait_to(MAYOR, b"<last@")
        assert not behind.having(b"<full-")
        checked = subprocess.run(
            [*gateway.enter, sys.executable, "-m", "gateway", "--config", str(gateway.config), "store", "check"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert checked.returncode == 0, checked.stdout + checked.stderr
    finally:
        gateway.finish()
