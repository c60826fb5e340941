"""clamd's commands for the command line, through the clamd package."""

import socket
from pathlib import Path

import pytest

from deploy.dev.clamd import ClamdNotStartedError, running_clamd
from gateway.checks.virus.commands import ask
from gateway.checks.virus.place import parse_place
from gateway.errors import ControlError
from tests.ports import free_port
from tests.unit.checks.virus.conftest import Clamd


@pytest.mark.real
@pytest.mark.parametrize("way", ["unix", "tcp"])
def test_commands(clamd: Clamd, way: str) -> None:
    """PING, VERSION, STATS and RELOAD answer on both ways."""
    place = parse_place(getattr(clamd, way))
    assert ask(place, "ping", 5.0) == "PONG"
    assert ask(place, "version", 5.0).startswith("ClamAV")
    assert "THREADS" in ask(place, "stats", 5.0)
    assert ask(place, "reload", 5.0) == "RELOADING"


def test_others_are_not_for_us(clamd: Clamd) -> None:
    """Nothing else is sent: above all not SHUTDOWN."""
    with pytest.raises(ValueError, match="shutdown"):
        ask(parse_place(clamd.unix), "shutdown", 5.0)


def test_nobody_there(tmp_path: Path) -> None:
    """No clamd is «unavailable»."""
    for address in (f"unix:{tmp_path}/none", f"127.0.0.1:{free_port()}"):
        with pytest.raises(ControlError) as raised:
            ask(parse_place(address), "ping", 1.0)
        assert raised.value.reason == "unavailable"


def test_deadlines(tmp_path: Path) -> None:
    """Neither a full queue nor a silent clamd holds the command for longer than its deadline."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(0)
        for _ in range(3):
            with pytest.raises(ControlError) as raised:
                ask(parse_place(f"unix:{path}"), "ping", 0.1)
            assert raised.value.reason == "unavailable"


@pytest.mark.real
@pytest.mark.usefixtures("clamd")
def test_start_says_why_it_failed(tmp_path: Path) -> None:
    """A clamd that does not start is reported with its own words, and a path too long for a socket before that."""
    with (
        pytest.raises(ClamdNotStartedError, match="Incorrect argument"),
        running_clamd(tmp_path, changes={"MaxFiles": "x"}),
    ):
        pass
    with pytest.raises(ClamdNotStartedError, match="too long"), running_clamd(tmp_path / ("x" * 100)):
        pass
