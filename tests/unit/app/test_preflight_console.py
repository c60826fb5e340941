"""What is said before the start about a console that others cannot use, or that shows their passwords on the way."""

from pathlib import Path

import pytest

from gateway.preflight import preflight
from gateway.settings import Settings


@pytest.mark.parametrize(
    ("console", "said"),
    [
        ({}, []),
        ({"address": "0.0.0.0:8480"}, ["is not set", "passwords travel"]),
        ({"address": "0.0.0.0:8480", "base_url": "http://mail.city.example"}, ["passwords travel"]),
        ({"address": "0.0.0.0:8480", "base_url": "https://mail.city.example"}, []),
        ({"address": "0.0.0.0:8480", "enabled": False}, []),
    ],
    ids=["loopback", "bare", "http", "https", "off"],
)
async def test_a_console_for_others_needs_a_name_and_https(
    tmp_path: Path, console: dict[str, object], said: list[str]
) -> None:
    """Remarks, not errors: the gateway starts."""
    settings = Settings.model_validate(
        {"console": console, "spool": {"directory": str(tmp_path)}, "next_hop": {"address": "127.0.0.1:1"}}
    )
    found = await preflight(settings, "gateway.city.example")
    about = [remark for remark in found.remarks if "console" in remark]
    assert len(about) == len(said)
    assert all(words in remark for words, remark in zip(said, about, strict=True))
