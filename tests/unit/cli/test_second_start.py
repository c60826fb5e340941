"""``civicgate run`` beside a gateway that runs already, or where it may not write."""

import argparse
import socket
from pathlib import Path

import pytest

from gateway.cli import run
from gateway.errors import ConfigError
from gateway.settings import ConsoleSettings, Endpoint, ListenerSettings, MetricsSettings, Settings

OFF = ConsoleSettings(enabled=False)


def _settings(metrics: Path, port: int) -> Settings:
    address = Endpoint(host="127.0.0.1", port=port)
    listener = ListenerSettings(name="proxy", address=Endpoint(host="127.0.0.1", port=0))
    return Settings(metrics=MetricsSettings(address=address, directory=metrics), listeners=(listener,), console=OFF)


def test_a_second_start_leaves_the_first_one_s_metrics(tmp_path: Path) -> None:
    """The port is taken: it says so and has emptied nothing that the running gateway needs."""
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / "counter_1.db").write_bytes(b"counted")
    with socket.create_server(("127.0.0.1", 0)) as first:
        settings = _settings(tmp_path / "metrics", first.getsockname()[1])
        with pytest.raises(ConfigError, match="already in use"):
            run.run(argparse.Namespace(config=tmp_path / "none.yaml"), settings)
    assert (tmp_path / "metrics" / "counter_1.db").exists()


def test_a_metrics_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """A file where the folder should be: one line that names the setting, no traceback."""
    (tmp_path / "metrics").write_text("a file")
    with pytest.raises(ConfigError, match=r"metrics\.directory"):
        run._share_metrics(tmp_path / "metrics")
