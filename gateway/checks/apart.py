"""What of one message has to be scanned apart, as the gateway keeps it: a file that an inspection process writes to.

Refuses to trust the process more than needed: what it wrote is sealed before clamd gets it, as far as the kernel can.
"""

import contextlib
import os

from gateway.checks.handout import Handed
from gateway.errors import ControlError
from gateway.model.finding import Check, ControlFailure
from gateway.spool import SpooledMessage


class Apart:
    """One message's file, made when first asked for. ``close`` it."""

    def __init__(self) -> None:
        self._fd = -1
        self.handed = Handed()
        """What the process says that it wrote."""

    def file(self, message: SpooledMessage) -> int:
        """An empty file's descriptor. Raises :class:`ControlError` (``unavailable``)."""
        try:
            if self._fd < 0:
                self._fd = message.beside()
            os.ftruncate(self._fd, 0)
            os.lseek(self._fd, 0, os.SEEK_SET)
        except OSError as error:
            detail = f"no file for what is to be scanned apart: {error.strerror}"
            raise ControlError("unavailable", detail) from error
        return self._fd

    def take(self, limit: int) -> SpooledMessage | None:
        """What has to be scanned, at most about ``limit`` octets; the caller closes it. None: nothing.

        Raises :class:`ControlError` (``crashed``): what the process says of its file is not true.
        """
        if not self.handed.size or self.handed.cut:
            return None
        fd, self._fd = self._fd, -1
        try:
            if not self.handed.size <= min(os.fstat(fd).st_size, 2 * limit + 1_000_000):
                raise ValueError(f"{self.handed.size} octets announced")
            return SpooledMessage.of_descriptor(fd, self.handed.size)
        except (OSError, ValueError) as error:
            os.close(fd)
            raise ControlError("crashed", f"what is to be scanned apart: {error}") from error

    def failure(self, structure: bool) -> ControlFailure | None:
        """Why nobody knows all that had to be scanned. ``structure``: whether findings tell of unread containers."""
        detail = self.handed.cut or ("" if structure else self.handed.unread)
        return ControlFailure(Check.VIRUS, "limit", detail) if detail else None

    def close(self) -> None:
        """Let go of the file, if it was not taken."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.close(self._fd)
            self._fd = -1
