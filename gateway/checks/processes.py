"""Inspection processes seen from the gateway: one request at a time, killed at the deadline, replaced after a failure.

They are started clean, never forked from the event loop. Refuses to trust their answers more than needed: an answer
may hold plain values and classes of this package only, so that a process taken over by a hostile file cannot make the
gateway run something.
"""

import asyncio
import io
import json
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from gateway.checks.child import HEADER, READY, Outcome
from gateway.errors import CivicgateError, ControlError
from gateway.settings import InspectionSettings
from gateway.spool import SpooledMessage

_MAX_ANSWER = 256 * 1024 * 1024
_PIECE = 1024 * 1024
_REAP_SECONDS = 10.0
_START_SECONDS = 30.0
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from gateway.checks.child import main; main(sys.argv[2:])"
)
_PLAIN_MODULES = frozenset({"datetime", "decimal", "pathlib", "collections", "ipaddress"})
_PLAIN_BUILTINS = frozenset({"set", "frozenset", "bytearray", "complex", "range", "slice"})


class InspectionProcess:
    """One process and its socket.

    ``told``: digest of the definitions that it has compiled.
    """

    def __init__(self, settings: InspectionSettings) -> None:
        """Start it. Raises :class:`ControlError` (``unavailable``) when the system cannot."""
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-c", _START, json.dumps(sys.path), str(theirs.fileno())]
        command += [str(settings.process_memory), str(int(settings.timeout) + 1)]
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and code
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=(theirs.fileno(),)
            )
        except OSError as error:
            ours.close()
            raise ControlError("unavailable", f"inspection process cannot be started: {error}") from error
        finally:
            theirs.close()
        ours.setblocking(False)
        self._socket = ours
        self._ready = False
        self.told = ""

    async def ready(self) -> None:
        """Wait until it has started. Raises :class:`ControlError` (``unavailable``); then it must be killed."""
        if self._ready:
            return
        try:
            async with asyncio.timeout(_START_SECONDS):
                self._ready = await self._exactly(len(READY)) == READY
        except (OSError, EOFError) as error:  # TimeoutError is an OSError
            raise ControlError("unavailable", f"inspection process {self.pid} does not start") from error

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """False once it has ended, whatever the reason."""
        return self._process.poll() is None

    async def call(
        self, function: Callable[..., Any], message: SpooledMessage, arguments: tuple[Any, ...], file: int = -1
    ) -> Any:
        """Run ``function(buffer, *arguments)`` there. ``file``, if there is one, is open there as the last argument.

        Raises what it raised if that is a :class:`CivicgateError`; :class:`ControlError` with ``crashed`` or ``limit``
        when it ended otherwise. After ControlError, a timeout or a cancellation the process must be killed.
        """
        payload = pickle.dumps((function, arguments), pickle.HIGHEST_PROTOCOL)
        loop = asyncio.get_running_loop()
        try:
            files = [message.fileno()] if file < 0 else [message.fileno(), file]
            socket.send_fds(self._socket, [HEADER.pack(len(payload))], files)
            await loop.sock_sendall(self._socket, payload)
            size = HEADER.unpack(await self._exactly(HEADER.size))[0]
            if size > _MAX_ANSWER:
                raise ControlError("crashed", f"inspection process answers with {size} octets")
            answer = _unpickle(await self._exactly(size))
        except (OSError, EOFError, pickle.UnpicklingError, AttributeError, TypeError, ValueError) as error:
            detail = f"{type(error).__name__}: {error}" if str(error) else "it ended"
            raise ControlError("crashed", f"inspection process {self.pid}: {detail}") from error
        return _result(answer)

    async def _exactly(self, size: int) -> bytes:
        loop = asyncio.get_running_loop()
        pieces = bytearray()
        while len(pieces) < size:
            piece = await loop.sock_recv(self._socket, min(size - len(pieces), _PIECE))
            if not piece:
                raise EOFError
            pieces += piece
        return bytes(pieces)

    def close(self) -> None:
        """End it at once, without waiting for its end (see :meth:`reap`)."""
        self._socket.close()
        self._process.kill()

    def reap(self) -> str:
        """Wait for a closed process and say how it ended. Blocks for as long as the kernel takes to free its memory."""
        try:
            code = self._process.wait(_REAP_SECONDS)
        except subprocess.TimeoutExpired:
            return "still ending"
        if code >= 0:
            return f"exit status {code}"
        try:
            return signal.Signals(-code).name
        except ValueError:
            return f"signal {-code}"


class _Answers(pickle.Unpickler):
    """Reads plain values and this package's own classes, and calls nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """A class by name; raises UnpicklingError for all that an answer has no use for."""
        if module.startswith("gateway.") and module in sys.modules and "." not in name:
            found = getattr(sys.modules[module], name, None)
            if isinstance(found, type) and found.__module__ == module:
                return found
        elif module in _PLAIN_MODULES or (module == "builtins" and name in _PLAIN_BUILTINS):
            found = super().find_class(module, name)
            if isinstance(found, type):
                return found
        raise pickle.UnpicklingError(f"{module}.{name} has no place in an answer")


def _unpickle(data: bytes) -> Any:
    return _Answers(io.BytesIO(data)).load()


def _result(answer: Any) -> Any:
    """The function's value, or what it raised."""
    outcome = answer[0]
    if outcome == Outcome.RESULT:
        return answer[1]
    if outcome == Outcome.RAISED:
        raise _error(*answer[1:])
    if outcome == Outcome.OUT_OF_MEMORY:
        raise ControlError("limit", "inspection process: out of memory")
    raise ControlError("crashed", f"inspection process: {answer[1]}")


def _error(module: str, name: str, arguments: tuple[Any, ...], attributes: dict[str, Any]) -> CivicgateError:
    """The error that was raised over there, rebuilt without calling its constructor."""
    kind = getattr(sys.modules.get(module), name, None)
    if not isinstance(kind, type) or not issubclass(kind, CivicgateError):
        return ControlError("crashed", f"inspection process: {name}: {arguments}")
    error = kind.__new__(kind)
    error.args = arguments
    error.__dict__.update(attributes)
    return error
