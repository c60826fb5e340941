"""A bucket of an S3-compatible server, through obstore: multipart for what is large, a few parts in memory at most.

A body that breaks off before its end is never seen: an upload counts when it is completed. What an upload that broke
off has sent stays with the server until its own rule removes it (docs/store.md). Refuses to look for credentials
elsewhere than in the settings' file or the environment when an endpoint is named.
"""

import configparser
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import obstore
from obstore import exceptions
from obstore.store import S3Store

from gateway.errors import StoreError
from gateway.settings import StoreSettings
from gateway.store.objects import ENDING, Reader, Writer

PART = 5 * 1024 * 1024
"""Octets of a part; the least that S3 takes."""
NOTE = "sealed-for"
FRESH = 10.0
"""Seconds for which the note is taken as it was."""
ANSWER = timedelta(seconds=60)
"""Wait for a part, or for the next octets of an object."""


class Bucket:
    """The objects under one prefix of one bucket."""

    def __init__(self, settings: StoreSettings) -> None:
        """Connects to nothing yet. Raises StoreError for credentials that cannot be read."""
        bucket, _, prefix = settings.bodies.removeprefix("s3://").partition("/")
        self.place = settings.bodies
        self._seen: tuple[float, str] | None = None
        config: dict[str, Any] = {"region": settings.s3_region, **_credentials(settings)}
        if settings.s3_endpoint:
            config["endpoint"] = settings.s3_endpoint
        self._store = S3Store(
            bucket,
            prefix=prefix.strip("/") or None,
            config=config,  # type: ignore[arg-type]  # a TypedDict that is put together
            client_options={
                "connect_timeout": timedelta(seconds=5),
                "read_timeout": ANSWER,
                "timeout": timedelta(minutes=10),
                "allow_http": settings.s3_endpoint.startswith("http://"),
            },
            retry_config={
                "max_retries": 3,
                "backoff": {
                    "init_backoff": timedelta(milliseconds=200),
                    "max_backoff": timedelta(seconds=2),
                    "base": 2,
                },
                "retry_timeout": timedelta(seconds=15),
            },
        )

    def prepare(self) -> None:
        """A bucket is made by whoever pays for it."""

    def put(self, name: str, fill: Callable[[Writer], None], *, replace: bool = False) -> None:
        """Stored when the server has said so. A name is used once, but to replace: nothing is looked up before."""
        with _as_os_error(name):
            writer = obstore.open_writer(self._store, name + ENDING, buffer_size=PART, max_concurrency=2)
            fill(writer)
            writer.close()  # not on the way out of a failure: closing is what makes the object

    @contextmanager
    def open(self, name: str) -> Iterator[Reader]:
        """A stream; the server sends on as it is read."""
        with _as_os_error(name):
            found = obstore.get(self._store, name + ENDING)
            yield _Stream(iter(found.stream(min_chunk_size=256 * 1024)))

    def remove(self, name: str) -> None:
        """The object."""
        with _as_os_error(name):
            try:
                obstore.delete(self._store, name + ENDING)
            except (FileNotFoundError, exceptions.NotFoundError):
                return

    def all(self) -> Iterator[tuple[str, float]]:
        """By the server's clock."""
        with _as_os_error(self.place):
            for batch in obstore.list(self._store):
                for one in batch:
                    name = one["path"].rpartition("/")[2]
                    if name.endswith(ENDING):
                        yield name.removesuffix(ENDING), one["last_modified"].timestamp()

    def clean(self, before: float) -> int:
        """Nothing: uploads that broke off are no objects."""
        return 0

    def read_note(self, *, fresh: bool = False) -> str:
        """Asked for again after :data:`FRESH` seconds."""
        now = time.monotonic()
        if fresh or self._seen is None or now - self._seen[0] > FRESH:
            with _as_os_error(NOTE):
                try:
                    text = bytes(obstore.get(self._store, NOTE).bytes()).decode()
                except (FileNotFoundError, exceptions.NotFoundError) as error:
                    if "NoSuchBucket" in str(error):
                        raise
                    text = ""
            self._seen = now, text
        return self._seen[1]

    def write_note(self, text: str, *, first: bool = False) -> None:
        """Of several that write the first note, one wins."""
        with _as_os_error(NOTE):
            try:
                obstore.put(self._store, NOTE, text.encode(), mode="create" if first else "overwrite")
            except exceptions.AlreadyExistsError:
                if not first:
                    raise
        self._seen = None


class _Stream:
    """Pieces behind a ``read``."""

    def __init__(self, pieces: Iterator[Any]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def read(self, size: int, /) -> bytes:
        """At most ``size`` octets."""
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._rest = memoryview(bytes(piece))
        found, self._rest = self._rest[:size], self._rest[size:]
        return bytes(found)


@contextmanager
def _as_os_error(what: str) -> Iterator[None]:
    """Errors of obstore as the folder's: not there, or not to be had now."""
    try:
        yield
    except (FileNotFoundError, exceptions.NotFoundError) as error:
        raise FileNotFoundError(f"{what}: {_short(error)}") from error
    except exceptions.BaseError as error:
        raise OSError(f"{what}: {_short(error)}") from error


def _short(error: Exception) -> str:
    """The first lines say it; what follows repeats it as a structure, headers and all."""
    return " ".join(str(error).partition("\n\nDebug source:")[0].split())[:300]


def _credentials(settings: StoreSettings) -> dict[str, str]:
    if settings.s3_credentials_file is not None:
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read_string(settings.s3_credentials_file.read_text(), str(settings.s3_credentials_file))
            section = parser["default"]
            found = {name: section[f"aws_{name}"] for name in ("access_key_id", "secret_access_key")}
        except (OSError, UnicodeError, KeyError, configparser.Error) as error:
            raise StoreError(
                f"{settings.s3_credentials_file} is no credentials file ([default], aws_access_key_id, "
                f"aws_secret_access_key): {type(error).__name__}"
            ) from error
        return found | ({"session_token": section["aws_session_token"]} if "aws_session_token" in section else {})
    names = {"access_key_id": "AWS_ACCESS_KEY_ID", "secret_access_key": "AWS_SECRET_ACCESS_KEY"}
    found = {name: os.environ[variable] for name, variable in names.items() if os.environ.get(variable)}
    if settings.s3_endpoint and len(found) < len(names):
        raise StoreError(
            "store.bodies needs credentials: s3_credentials_file, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if "AWS_SESSION_TOKEN" in os.environ:
        found["session_token"] = os.environ["AWS_SESSION_TOKEN"]
    return found
