"""The observer: looks at neighbours that are up and down, and counts what is held."""

import asyncio
from pathlib import Path

import pytest

from gateway.errors import ConfigError
from gateway.metrics import REGISTRY
from gateway.observer import Observer
from tests.serving import MailServer, prepare, settings_for


async def test_neighbours_are_asked_and_told_of_when_they_change(
    tmp_path: Path, server: MailServer, capfd: pytest.CaptureFixture[str]
) -> None:
    """The next hop is up, clamd is not, nothing is held; the same state is said once."""
    prepare(tmp_path)
    observer = Observer(settings_for(tmp_path, server, log={"level": "info"}), "gateway.city.example")
    looking = asyncio.create_task(observer._look_again())
    try:
        async with asyncio.timeout(10):
            while observer._hold is None or REGISTRY.get_sample_value("civicgate_next_hop_up") != 1:
                await asyncio.sleep(0.02)
        assert REGISTRY.get_sample_value("civicgate_clamd_up") == 0
        assert REGISTRY.get_sample_value("civicgate_outbox_messages") == 0
        observer._up("clamd", up=False)
        observer._up("clamd", up=True)
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        await observer._next_hop.close()
        await observer._scanner.close()
        if observer._hold is not None:
            await observer._hold.close()
    said = capfd.readouterr().err
    assert said.count("error clamd is down\n") == 1
    assert said.count("info clamd is up\n") == 1
    assert said.count("info next hop is up\n") == 1


async def test_a_metrics_address_that_is_taken_is_named(
    tmp_path: Path, server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The observer does not start silently without its server."""
    (tmp_path / "m").mkdir()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "m"))
    settings = settings_for(tmp_path, server, metrics={"address": f"127.0.0.1:{server.port}"})
    with pytest.raises(ConfigError, match=f"metrics: cannot listen on 127.0.0.1:{server.port}: Address already in use"):
        Observer(settings, "gateway.city.example")._listen()
