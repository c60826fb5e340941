"""The milter front's unix socket: who may connect, and whose it is at the start."""

import grp
import os
import socket
import stat
from pathlib import Path

import pytest

from gateway.errors import ConfigError
from gateway.front.sockets import unix_socket
from gateway.settings import MilterListenerSettings


def listener(path: Path, **changes: str) -> MilterListenerSettings:
    """Settings of one."""
    return MilterListenerSettings.model_validate({"name": "beside", "address": f"unix:{path}", **changes})


def connects(path: Path) -> bool:
    """Whether somebody listens."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


@pytest.mark.parametrize("mode", ["0660", "0600", "666"])
def test_mode_and_group_are_the_settings(tmp_path: Path, mode: str) -> None:
    """Whatever the umask says; the folder is made when it is missing."""
    group = grp.getgrgid(os.getgid()).gr_name if os.geteuid() else "mail"
    path = tmp_path / "run" / "milter.sock"
    before = os.umask(0o077)
    try:
        with unix_socket(listener(path, mode=mode, group=group)):
            kept = path.stat()
    finally:
        os.umask(before)
    assert stat.S_IMODE(kept.st_mode) == int(mode, 8)
    assert kept.st_gid == grp.getgrnam(group).gr_gid


def test_what_a_killed_gateway_left_is_replaced(tmp_path: Path) -> None:
    """A socket file on which nobody answers is no reason not to start."""
    path = tmp_path / "milter.sock"
    unix_socket(listener(path)).close()
    assert not connects(path)
    with unix_socket(listener(path)):
        assert connects(path)


def test_another_gateways_socket_is_left_alone(tmp_path: Path) -> None:
    """Two on one path would take each other's mail: the second one says so and does not start."""
    path = tmp_path / "milter.sock"
    with unix_socket(listener(path)):
        with pytest.raises(ConfigError, match="another process listens there"):
            unix_socket(listener(path))
        assert connects(path)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("file", "no socket"),
        ("link", "no socket"),
        ("folder", "no socket"),
        ("group", "nobody-has-this-group"),
        ("long", "too long"),
    ],
    ids=["file", "link", "folder", "group", "long"],
)
def test_what_is_in_the_way_is_named_and_left_there(tmp_path: Path, change: str, problem: str) -> None:
    """Nothing of anybody's is removed but a dead socket."""
    path = tmp_path / ("x" * 200 if change == "long" else "milter.sock")
    group = problem if change == "group" else ""
    if change == "file":
        path.write_text("kept", "ascii")
    elif change == "link":
        (tmp_path / "kept").write_text("kept", "ascii")
        path.symlink_to(tmp_path / "kept")
    elif change == "folder":
        path.mkdir()
    with pytest.raises(ConfigError, match=f"milter listener beside: cannot listen on .*{problem}"):
        unix_socket(listener(path, group=group))
    if change in ("file", "link"):
        assert path.read_text("ascii") == "kept"
