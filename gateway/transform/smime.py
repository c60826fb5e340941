"""S/MIME EnvelopedData (RFC 8551, RFC 5652) by ``openssl cms``, streaming.

Measured with 45 MB: the openssl process holds 6.5 MB, whatever the size, where ``cryptography``'s builder needs the
whole message four times in memory. Plaintext goes through a pipe, certificates through sealed memory files; nothing
but public data is on the command line, and no temporary file is made. Refuses to give anything but the whole result:
any failure is a TransformError, and then the caller has nothing to send.
"""

import asyncio
import binascii
import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence

from gateway.errors import TransformError
from gateway.transform.enveloped import is_enveloped

_CHUNK = 64 * 1024
_MOST_CERTIFICATES = 200
_MOST_WORDS = 2000
_SIGN = 60
"""Letters of base64 that are enough to know EnvelopedData; one line has 64."""

Piece = bytes | memoryview


class Enveloper:
    """Encrypts entities, a few at a time."""

    def __init__(self, openssl: str, timeout: float, processes: int = 4) -> None:
        """``timeout``: seconds for one message, waiting for a free place included."""
        self._openssl = openssl
        self._timeout = timeout
        self._places = asyncio.Semaphore(processes)

    async def encrypt(
        self, entity: Iterable[Piece], certificates: Sequence[bytes], write: Callable[[bytes], None], newline: bytes
    ) -> None:
        """Encrypt a MIME entity with AES-256-CBC for all certificates (PEM); ``write`` gets base64 lines.

        Raises TransformError: ``timeout``, ``openssl``, ``too-many-recipients``; what ``write`` raises goes through.
        """
        if not 0 < len(certificates) <= _MOST_CERTIFICATES:
            raise TransformError("too-many-recipients", f"{len(certificates)} certificates, at most 200")
        try:
            async with asyncio.timeout(self._timeout), self._places:
                await self._run(entity, certificates, write, newline)
        except TimeoutError as error:
            raise TransformError("timeout", f"openssl took longer than {self._timeout:g} s") from error

    async def _run(
        self, entity: Iterable[Piece], certificates: Sequence[bytes], write: Callable[[bytes], None], newline: bytes
    ) -> None:
        with _memory_files(certificates) as files:
            command = ("cms", "-encrypt", "-binary", "-stream", "-aes256", "-outform", "SMIME")
            paths = [f"/dev/fd/{file}" for file in files]
            try:
                process = await asyncio.create_subprocess_exec(
                    self._openssl, *command, *paths, pass_fds=files, env=_environment(),
                    stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
                )  # fmt: skip
            except OSError as error:
                raise TransformError("openssl", f"{self._openssl} cannot be started: {error.strerror}") from error
        try:
            await _converse(process, entity, _Base64Lines(write, newline))
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            if process.stdin is not None and process.stdin.transport.get_write_buffer_size():
                process.stdin.transport.abort()  # close() would wait until it is written
            # Nothing public closes a pipe that is full and that nobody will read; wait() would wait for it for ever.
            process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001
            await process.wait()
            await asyncio.sleep(0)  # the pipes' ends are told in the loop's next turn: not after the loop has closed


async def _converse(process: asyncio.subprocess.Process, entity: Iterable[Piece], lines: "_Base64Lines") -> None:
    """Feed, read and wait at once; the first failure ends all."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    feeding = asyncio.create_task(_feed(process.stdin, entity))
    words = asyncio.create_task(_read_words(process.stderr))
    try:
        while data := await process.stdout.read(_CHUNK):
            lines.take(data)
        fed = await feeding
        said = await words
        code = await process.wait()
    finally:
        for task in (feeding, words):
            task.cancel()
        await asyncio.gather(feeding, words, return_exceptions=True)
    if code or not fed or not lines.begun:
        raise TransformError("openssl", f"openssl ended with {code}: {said or 'it did not read all of the message'}")
    lines.finish()


async def _feed(pipe: asyncio.StreamWriter, entity: Iterable[Piece]) -> bool:
    """Write all of the entity and close the pipe; False when openssl did not take it all."""
    try:
        for piece in entity:
            if pipe.is_closing():  # uvloop raises RuntimeError for a write behind it, asyncio nothing at all
                return False
            pipe.write(bytes(piece))
            await pipe.drain()
        pipe.close()
        await pipe.wait_closed()
    except (BrokenPipeError, ConnectionResetError):
        return False
    return True


async def _read_words(pipe: asyncio.StreamReader) -> str:
    """The first words of what openssl complains about, on one line; the rest is read and dropped."""
    kept = b""
    while data := await pipe.read(_CHUNK):
        kept += data[: max(0, _MOST_WORDS - len(kept))]
    text = kept.decode("utf-8", "replace")
    return " | ".join("".join(c if c.isprintable() else " " for c in line).strip() for line in text.splitlines())


class _Base64Lines:
    """Takes openssl's S/MIME output, drops its own header, hands on the base64 lines with the message's line ends.

    Looks at the first octets itself: what is not EnvelopedData is not handed on, whoever made it.
    """

    def __init__(self, write: Callable[[bytes], None], newline: bytes) -> None:
        self._write = write
        self._newline = newline
        self._held = b""
        self.begun = False

    def take(self, data: bytes) -> None:
        data = self._held + data
        if not self.begun:
            _, empty, body = data.replace(b"\r\n", b"\n").partition(b"\n\n")
            if len(body) < _SIGN and len(data) <= _CHUNK:
                self._held = data
                return
            if not (empty and _looks_enveloped(body)):
                raise TransformError("openssl", "openssl gave something else than EnvelopedData")
            data, self.begun = body, True
        whole = data.rstrip(b"\r\n")
        self._held = data[len(whole) :]
        if whole:
            self._write(whole.replace(b"\r\n", b"\n").replace(b"\n", self._newline))

    def finish(self) -> None:
        self._write(self._newline)


def _looks_enveloped(body: bytes) -> bool:
    try:
        return is_enveloped(binascii.a2b_base64(body[:_SIGN], strict_mode=True))
    except binascii.Error:
        return False


@contextlib.contextmanager
def _memory_files(contents: Sequence[bytes]) -> Iterator[list[int]]:
    """Anonymous files that a child can open by descriptor: what was checked is what is used."""
    files: list[int] = []
    try:
        for content in contents:
            files.append(os.memfd_create("certificate", os.MFD_CLOEXEC))
            os.write(files[-1], content)
            os.lseek(files[-1], 0, os.SEEK_SET)
        yield files
    finally:
        for file in files:
            os.close(file)


def _environment() -> dict[str, str]:
    """What openssl needs and no more."""
    kept = ("PATH", "LD_LIBRARY_PATH", "OPENSSL_CONF", "OPENSSL_MODULES")
    return {"LC_ALL": "C", **{name: os.environ[name] for name in kept if name in os.environ}}
