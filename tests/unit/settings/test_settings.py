"""The settings' own rules: who is inside, listeners, defaults that agree with the shipped file."""

from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest
from pydantic import ValidationError

from gateway.settings import Endpoint, ListenerSettings, NetworkSettings, Settings, default_values, load_settings


def test_an_empty_file_gives_every_default(tmp_path: Path) -> None:
    """No key is compulsory."""
    (tmp_path / "g.yaml").write_text("", "utf-8")
    assert load_settings(tmp_path / "g.yaml") == Settings()


def test_the_shipped_file_can_be_read() -> None:
    """config/gateway.yaml is a valid file, and says what the defaults are."""
    assert load_settings(Path("config/gateway.yaml")).smtp == Settings().smtp


def test_default_values_are_plain_and_complete() -> None:
    """The documentation's test gets every slice with plain data."""
    values = default_values()
    assert set(values) == set(Settings.model_fields)
    assert values["smtp"]["max_message_size"] == 150_000_000
    assert values["listeners"][0]["address"] == {"host": "127.0.0.1", "port": 10025}


def test_settings_are_frozen() -> None:
    """A component cannot change what another one reads."""
    with pytest.raises(ValidationError):
        Settings().smtp.max_hops = 3


@pytest.mark.parametrize(
    ("text", "host", "port", "shown"),
    [
        ("127.0.0.1:25", "127.0.0.1", 25, "127.0.0.1:25"),
        ("[::1]:25", "::1", 25, "[::1]:25"),
        ("mail.city.example:0", "mail.city.example", 0, "mail.city.example:0"),
        (":25", "", 25, ":25"),
    ],
)
def test_endpoints_are_read_and_shown_alike(text: str, host: str, port: int, shown: str) -> None:
    """HOST:PORT, with brackets around IPv6."""
    one = ListenerSettings.model_validate({"name": "a", "address": text}).address
    assert (one, str(one)) == (Endpoint(host=host, port=port), shown)


@pytest.mark.parametrize("text", ["127.0.0.1", "127.0.0.1:x", "a:-1", "a:65536", "", "a:²"])
def test_what_is_no_endpoint_is_refused(text: str) -> None:
    """A host without a port, or with a port that is none."""
    with pytest.raises(ValidationError, match="is not HOST:PORT"):
        ListenerSettings.model_validate({"name": "a", "address": text})


@pytest.mark.parametrize(
    ("address", "internal"),
    [
        ("clerk@city.example", True),
        ("clerk@CITY.example", True),
        ("clerk@police.city.example", True),
        ("clerk@deep.police.city.example", True),
        ("clerk@evilcity.example", False),
        ("clerk@city.example.evil.example", False),
        ("clerk@other.example", False),
        ('"a@b"@other.example', False),
        ("postmaster", True),
        ("", True),
        ("clerk@", True),
    ],
)
def test_who_is_inside(address: str, *, internal: bool) -> None:
    """Own domains and, with an asterisk, the hosts below; no domain is ours; look-alikes are not."""
    network = NetworkSettings(internal_domains=("City.Example.", "*.city.example"))
    assert network.is_internal(address) is internal


def test_without_an_asterisk_hosts_below_are_outside() -> None:
    """A domain stands for itself."""
    assert not NetworkSettings(internal_domains=("city.example",)).is_internal("a@police.city.example")


def test_networks_are_read() -> None:
    """IPv4 and IPv6 in one list, single addresses too."""
    given = {"internal_networks": ["10.0.0.0/8", "2001:db8::/32", "192.0.2.7"]}
    assert NetworkSettings.model_validate(given).internal_networks == (
        ip_network("10.0.0.0/8"), ip_network("2001:db8::/32"), ip_network("192.0.2.7/32"),
    )  # fmt: skip


def test_times_and_sizes_arrive_in_seconds_and_octets() -> None:
    """What is written with a unit is a number afterwards."""
    given = {"smtp": {"idle_timeout": "2 min", "max_message_size": "1 MiB"}, "hold": {"expires_after": "3 d"}}
    settings = Settings.model_validate(given)
    assert settings.smtp.idle_timeout == 120.0
    assert settings.smtp.max_message_size == 2**20
    assert settings.hold.expires_after == timedelta(days=3)


@pytest.mark.parametrize(
    "written", ["bücher.example", "BÜCHER.example.", "xn--bcher-kva.example", "bu\u0308cher.example"]
)
@pytest.mark.parametrize("address", ["a@bücher.example", "a@BÜCHER.example", "a@xn--bcher-kva.EXAMPLE"])
def test_the_two_forms_of_an_international_domain_are_one(written: str, address: str) -> None:
    """RFC 5890: mail to the other form was once relayed as if to a stranger, or refused."""
    network = NetworkSettings(internal_domains=(written, f"*.{written}"))
    assert network.is_internal(address)
    assert network.is_internal(address.replace("@", "@mail."))
    assert not network.is_internal("a@bucher.example")
    assert not network.is_internal("a@xbücher.example")
