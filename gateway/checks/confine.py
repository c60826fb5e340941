"""Takes from an inspection process what it has no use for: new sockets and other programs (seccomp, Linux).

A library that a hostile file has taken over can then neither call home nor start anything. Refuses nothing where the
kernel or the machine does not know how: the other limits hold without it.
"""

import ctypes
import errno
import platform
import struct

_NO_NEW_PRIVILEGES, _SET_SECCOMP, _FILTER = 38, 22, 2
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
"""BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K."""
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_AT_NUMBER, _AT_MACHINE = 0, 4
_MACHINES = {
    "x86_64": (0xC000003E, {"socket": 41, "execve": 59, "execveat": 322, "io_uring_setup": 425}),
    "aarch64": (0xC00000B7, {"socket": 198, "execve": 221, "execveat": 281, "io_uring_setup": 425}),
}
"""Audit's name of the machine, and the calls that are refused."""


class _Program(ctypes.Structure):
    """As the kernel's ``struct sock_fprog``."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def confine() -> bool:
    """Refuse sockets and programs from now on, for good. False: this machine or kernel cannot."""
    machine = _MACHINES.get(platform.machine())
    if machine is None:
        return False
    rules = _rules(*machine)
    octets = ctypes.create_string_buffer(rules, len(rules))
    program = _Program(len(rules) // 8, ctypes.addressof(octets))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0:
        return False
    return bool(libc.prctl(_SET_SECCOMP, _FILTER, ctypes.byref(program), 0, 0) == 0)


def _rules(machine: int, calls: dict[str, int]) -> bytes:
    """The filter: another machine's calls and all that are not listed pass, listed ones get EPERM."""
    count = len(calls)
    rows = [(_LOAD, 0, 0, _AT_MACHINE), (_EQUAL, 0, count + 1, machine), (_LOAD, 0, 0, _AT_NUMBER)]
    rows += [(_EQUAL, count - n, 0, number) for n, number in enumerate(calls.values())]
    rows += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _ERRNO | errno.EPERM)]
    return b"".join(struct.pack("=HBBL", *row) for row in rows)
