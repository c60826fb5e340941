"""How many connections one worker takes."""

from pathlib import Path

import pytest

from gateway.app import _connections
from gateway.settings import load_settings


@pytest.mark.parametrize(("workers", "share"), [(1, 1000), (2, 500), (3, 334)])
def test_max_connections_is_in_all_as_its_text_says(workers: int, share: int) -> None:
    """The text once said «for each worker» while the workers shared it."""
    file = Path("config/gateway.yaml")
    settings = load_settings(file).model_copy(update={"workers": workers})
    assert _connections(settings) == (share, 200)
    comment = file.read_text("utf-8").partition("  max_connections:")[0].rpartition("bare_newlines")[2]
    assert "in all" in comment
    assert "for each worker" not in comment
