"""A real PostgreSQL for tests: Debian's server in a temporary folder, on a Unix socket, without fsync.

Refuses the superuser, as the server does: there it runs as Debian's user ``postgres``. Ends with the thread that
started it, even when its process is killed: start it from the main thread.
"""

import asyncio
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.store.postgres import Server

USER = "postgres"
WITHOUT = "needs PostgreSQL's server programs (Debian: postgresql); deploy/setup installs them"
FAST = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_connections": "100",
    "autovacuum": "off",
    "listen_addresses": "",
    "log_min_messages": "fatal",
    "max_wal_size": "256MB",
}


def programs() -> Path | None:
    """Folder of ``initdb`` and ``postgres``: on PATH, or where Debian puts them, newest version first."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    return next((folder for folder in debian if (folder / "initdb").exists()), None)


class Cluster:
    """One server, that can be stopped and started in the middle of a test."""

    def __init__(self) -> None:
        bin_ = programs()
        assert bin_ is not None, WITHOUT
        self._bin = bin_
        self.folder = Path(tempfile.mkdtemp(prefix="cg-pg-"))
        self._data = self.folder / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self._dropping: list[str] = []
        if os.geteuid() == 0:
            person = pwd.getpwnam(USER)
            os.chown(self.folder, person.pw_uid, person.pw_gid)
        self._run("initdb", "-D", str(self._data), "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N")
        self.start()

    def _as_user(self, *words: str) -> list[str]:
        own = ["setpriv", "--pdeathsig", "INT"]
        if os.geteuid() == 0:
            own += [f"--reuid={USER}", f"--regid={USER}", "--init-groups"]
        return [*own, str(self._bin / words[0]), *words[1:]]

    def _run(self, *words: str) -> None:
        done = subprocess.run(self._as_user(*words), capture_output=True, text=True, cwd="/", check=False)
        assert done.returncode == 0, done.stderr

    @property
    def pid(self) -> int:
        """Of the server's first process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start, and wait until it answers."""
        settings = [word for name, value in FAST.items() for word in ("-c", f"{name}={value}")]
        words = self._as_user("postgres", "-D", str(self._data), "-k", str(self.folder), *settings)
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(words, stdout=log, stderr=log, cwd="/")
        deadline = time.monotonic() + 30
        while True:
            ready = [str(self._bin / "pg_isready"), "-q", "-h", str(self.folder), "-d", "postgres"]
            if subprocess.run(ready, check=False).returncode == 0:
                return
            assert time.monotonic() < deadline, (self.folder / "log").read_text()[-2000:]
            assert self._process.poll() is None, (self.folder / "log").read_text()[-2000:]
            time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """End it at once (SIGQUIT: as in a crash, SIGINT: in order) and wait until it has gone."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            process.wait(30)

    def remove(self) -> None:
        """Stop it and take its folder away."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database: str, user: str = USER) -> str:
        """The address of one of its databases."""
        return f"postgresql://{user}@/{database}?host={self.folder}"

    async def _say(self, database: str, *statements: str) -> list[Any]:
        connection = await Server(self.url(database)).connect(10.0)
        try:
            return [await connection.fetch(statement) for statement in statements]
        finally:
            await connection.close(timeout=5)

    def say(self, database: str, *statements: str) -> list[Any]:
        """Run statements as the superuser, for tests without an event loop; returns the rows of each."""
        return asyncio.run(self._say(database, *statements))

    async def ask(self, database: str, *statements: str) -> list[Any]:
        """The same where an event loop runs."""
        return await self._say(database, *statements)

    def create(self, template: str = "template0") -> str:
        """A new database; returns its name. Not where an event loop runs."""
        name = f"t{secrets.token_hex(6)}"
        dropping, self._dropping = self._dropping, []
        away = [f"DROP DATABASE IF EXISTS {one} WITH (FORCE)" for one in dropping]
        self.say("postgres", *away, f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    @contextmanager
    def database(self, template: str = "template0") -> Iterator[str]:
        """The address of a new database, taken away with the block."""
        name = self.create(template)
        yield self.url(name)
        self.drop(name)

    def drop(self, name: str) -> None:
        """Take a database away, with whoever is connected to it: before the next one is made, over one connection."""
        self._dropping.append(name)


@contextmanager
def running() -> Iterator[Cluster]:
    """A server, taken away with the block; the test is skipped where there is no PostgreSQL."""
    if programs() is None:
        pytest.skip(WITHOUT)
    one = Cluster()
    try:
        yield one
    finally:
        one.remove()
