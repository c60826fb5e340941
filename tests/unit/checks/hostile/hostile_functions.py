"""What a hostile file could make a reader do, as functions that an inspection process can import."""

import os
import resource
import signal
import socket
import subprocess
import time
from typing import Any

from gateway.errors import ControlError, TransformError
from gateway.mime.edits import Edit
from gateway.mime.tree import Buffer


def length(buffer: Buffer) -> int:
    """Octets of the message."""
    return len(buffer)


def edit_of(buffer: Buffer, data: bytes) -> Edit:
    """A value of the package's own."""
    return Edit(0, len(buffer), data)


def dial(_buffer: Buffer) -> str:
    """Calls home."""
    try:
        socket.create_connection(("127.0.0.1", 25), 1).close()
    except OSError as error:
        return type(error).__name__
    return "connected"


def start_program(_buffer: Buffer) -> str:
    """Starts a program."""
    try:
        subprocess.run(["/bin/true"], check=True)
    except OSError as error:
        return type(error).__name__
    return "started"


def abort(_buffer: Buffer) -> None:
    """What libmagic does on a bad day."""
    os.abort()


def loop(_buffer: Buffer) -> None:
    """Never ends and never looks up."""
    while True:
        pass


def sleep(_buffer: Buffer, seconds: float) -> int:
    """Takes its time; says who it was."""
    time.sleep(seconds)
    return os.getpid()


def hoard(_buffer: Buffer) -> int:
    """Wants more memory than the test allows, though less than the machine has."""
    return len(bytearray(600 * 1024 * 1024))


def stumble(_buffer: Buffer) -> None:
    """A mistake in our own code."""
    raise ZeroDivisionError("one over none")


def refuse(_buffer: Buffer, code: str) -> None:
    """An answer that is an error of the package's own."""
    raise TransformError(code, "cannot be done")


def refuse_control(_buffer: Buffer) -> None:
    """An error whose constructor takes other arguments than it keeps."""
    raise ControlError("limit", "too many layers")


class Evil:
    """An answer that would call something when it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("exit 7",)


def answer_evil(_buffer: Buffer) -> Evil:
    """Such an answer."""
    return Evil()


def ends(_buffer: Buffer) -> tuple[int, int, int, int, int]:
    """The process's own limits: memory, core, files, niceness, parent."""
    return (
        resource.getrlimit(resource.RLIMIT_AS)[0],
        resource.getrlimit(resource.RLIMIT_CORE)[0],
        resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        os.nice(0),
        os.getppid(),
    )


def cpu_left(_buffer: Buffer) -> float:
    """Seconds of processor time until the kernel ends the process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return resource.getrlimit(resource.RLIMIT_CPU)[0] - used.ru_utime - used.ru_stime


def ignores_interrupt(_buffer: Buffer) -> bool:
    """Whether Ctrl-C at the terminal leaves it alone."""
    return signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def leave_anyhow(_buffer: Buffer, *_args: object) -> None:
    """An end without a word, whatever it was told."""
    os._exit(3)
