"""The setting clamd.address."""

import pytest

from gateway.checks.virus import TcpPlace, UnixPlace, VirusScanner, parse_place
from gateway.errors import ConfigError
from gateway.settings import ClamdSettings


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("unix:var/clamd.sock", UnixPlace("var/clamd.sock")),
        ("127.0.0.1:3310", TcpPlace("127.0.0.1", 3310, numeric=True)),
        ("[::1]:3310", TcpPlace("::1", 3310, numeric=True)),
        ("clamd.city.example:3310", TcpPlace("clamd.city.example", 3310, numeric=False)),
    ],
)
def test_good(text: str, place: UnixPlace | TcpPlace) -> None:
    """Both forms are read, and written again as they were."""
    assert parse_place(text) == place
    assert str(place) == text


@pytest.mark.parametrize(
    "text", ["", "unix:", "clamd", "host:", ":3310", "host:0", "host:65536", "host:²", "unix:" + "x" * 108]
)
def test_bad(text: str) -> None:
    """What no socket can be opened on is refused when the gateway starts."""
    with pytest.raises(ConfigError, match=r"clamd\.address"):
        parse_place(text)
    with pytest.raises(ConfigError):
        VirusScanner(ClamdSettings(address=text))
