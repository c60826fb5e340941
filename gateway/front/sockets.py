"""Unix sockets of the milter front: made by the parent, shared by the workers.

Refuses a path on which another gateway answers, and one that is no socket.
"""

import os
import shutil
import socket
import stat
from pathlib import Path

from gateway.errors import ConfigError
from gateway.settings import MilterListenerSettings

_QUEUE = 1024
_PATIENCE = 5.0
"""Seconds for a process whose queue is full to take us."""


def unix_socket(listener: MilterListenerSettings) -> socket.socket:
    """Bind and listen, with the mode and group of the settings. What a killed gateway left behind is replaced.

    Raises ConfigError.
    """
    path = listener.path
    assert path is not None
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear(path)
        before = os.umask(0o777)  # nobody connects before mode and group are right
        try:
            made.bind(str(path))
        finally:
            os.umask(before)
        if listener.group:
            shutil.chown(path, group=listener.group)
        path.chmod(int(listener.mode, 8))
        made.listen(_QUEUE)
    except (OSError, LookupError) as error:
        made.close()
        problem = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError(f"milter listener {listener.name}: cannot listen on {path}: {problem}") from error
    return made


def _clear(path: Path) -> None:
    """Take away what nobody answers on. Raises OSError."""
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise FileExistsError(17, "there is a file, and it is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PATIENCE)
        try:
            probe.connect(str(path))
        except TimeoutError:
            pass  # it listens, and is too busy to say so
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
    raise OSError(98, "another process listens there")
