"""Reload: what can be read is in force from the next transaction on, what cannot changes nothing and is told."""

import asyncio
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from gateway.app import Gateway, own_hostname, serve, tls_context
from gateway.errors import ConfigError
from gateway.metrics import REGISTRY
from gateway.settings import ListenerSettings, Settings, load_settings
from tests.serving import Client, MailServer, prepare, settings_for

RULE = """
id: subject
title: No such subject
source: mon/x
when: {header: {name: Subject, contains: [WORD]}}
then: {reject: {text: Not this subject.}}
cases:
  - {it: refuses, message: {from: a@city.example, to: b@city.example, subject: WORD}, expect: {disposition: reject}}
  - {it: others, message: {from: a@city.example, to: b@city.example}, expect: {disposition: pass}}
"""


class Site:
    """A gateway with a settings file of its own."""

    def __init__(self, folder: Path, server: MailServer) -> None:
        self.folder, self.file = folder, folder / "gateway.yaml"
        self.values: dict[str, Any] = settings_for(folder, server, log={"level": "info"}).model_dump(
            mode="json", exclude_unset=True
        )

    def write(self, **changes: Any) -> Settings:
        """Write the file with these slices changed."""
        for name, change in changes.items():
            self.values[name] = {**self.values.get(name, {}), **change} if isinstance(change, dict) else change
        YAML(typ="safe").dump(_with_units(self.values), self.file)
        return load_settings(self.file)

    def rule(self, text: str, name: str = "a") -> None:
        """Write a rule."""
        (self.folder / "rules" / f"{name}.yaml").write_text(text, "utf-8")


def _with_units(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_units(inner) for key, inner in value.items()}
    return f"{value} s" if isinstance(value, float) else value


@pytest.fixture
def site(tmp_path: Path, server: MailServer) -> Site:
    """A folder with settings and no rules."""
    prepare(tmp_path)
    return Site(tmp_path, server)


def _reloads(outcome: str) -> float:
    return REGISTRY.get_sample_value("civicgate_reloads_total", {"outcome": outcome}) or 0


async def _send(gateway: Gateway, subject: str, padding: int = 0) -> str:
    client = await (await Client.connect(gateway.ports[0])).hello()
    body = (b"x" * 70 + b"\r\n") * (padding // 72)
    reply = await client.send("a@city.example", ["b@city.example"], f"Subject: {subject}\r\n\r\n".encode() + body)
    await client.close()
    return reply[:3]


async def test_new_rules_are_in_force_and_broken_ones_are_not(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    """From no rules to one, for small and large mail; then a broken one: the old stays, counted, with its place."""
    gateway = Gateway(site.write(), site.file)
    await gateway.start()
    try:
        assert await _send(gateway, "alpha") == "250"
        site.rule(RULE.replace("WORD", "alpha"))
        done, refused = _reloads("done"), _reloads("refused")
        await gateway.reload()
        assert (_reloads("done"), _reloads("refused")) == (done + 1, refused)
        assert await _send(gateway, "alpha") == "550"
        assert await _send(gateway, "alpha", 200_000) == "550"
        assert await _send(gateway, "beta", 200_000) == "250"
        site.rule("id: broken\nwhne: {}\n", "b")
        site.rule(RULE.replace("WORD", "beta"))
        capfd.readouterr()
        await gateway.reload()
        assert (_reloads("done"), _reloads("refused")) == (done + 1, refused + 1)
        assert (await _send(gateway, "alpha"), await _send(gateway, "beta")) == ("550", "250")
        said = capfd.readouterr().err
        assert re.search(r"error reload refused, the old settings and rules stay problem=.*b\.yaml:2:1: ", said), said
    finally:
        await gateway.drain()


async def test_settings_that_need_a_restart_are_named_and_stay(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    """Half of a change is never in force: slices that are read at the start keep their values, and the log says so."""
    gateway = Gateway(site.write(), site.file)
    await gateway.start()
    try:
        before = gateway.settings
        site.write(
            workers=3, spool={"memory": 1}, next_hop={"pool_size": 7}, inspection={"max_depth": 5},
            outbox={"concurrency": 3}, hold={"fallback_role": "boss"}, notices={"city_name": "Elsewhere"},
            smtp={"max_hops": 7},
        )  # fmt: skip
        capfd.readouterr()
        await gateway.reload()
        said = capfd.readouterr().err
        assert (
            "these settings change with the next start "
            "settings=workers,spool,next_hop,inspection,hold,outbox,notices\n" in said
        )
        assert gateway.settings.smtp.max_hops == 7
        assert gateway.settings.model_copy(update={"smtp": before.smtp}) == before
    finally:
        await gateway.drain()


async def test_limits_and_log_follow_a_reload(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    """Regression: limits on connections, and the form of the log, were read once and changed silently never."""
    gateway = Gateway(site.write(), site.file)
    await gateway.start()
    try:
        site.write(smtp={"max_connections_per_client": 1}, log={"format": "json"})
        await gateway.reload()
        capfd.readouterr()
        assert await _send(gateway, "x") == "250"
        (line,) = [row for row in capfd.readouterr().err.splitlines() if "reply" in row]
        assert line.startswith("{")
        for _ in range(50):
            if not any(admission.sessions for admission in gateway._admissions):
                break
            await asyncio.sleep(0.02)
        first = await Client.connect(gateway.ports[0])
        assert (await first.reply()).startswith("220 ")
        second = await Client.connect(gateway.ports[0])
        assert (await second.reply()).startswith("421 4.7.0 ")
        await first.close()
        await second.close()
    finally:
        await gateway.drain()


async def test_a_transaction_ends_with_the_rules_it_began_with(site: Site) -> None:
    """The snapshot is taken at MAIL; the next transaction on the same connection has the new rules."""
    gateway = Gateway(site.write(), site.file)
    await gateway.start()
    client = await (await Client.connect(gateway.ports[0])).hello()
    try:
        await client.say("MAIL FROM:<a@city.example>")
        await client.say("RCPT TO:<b@city.example>")
        site.rule(RULE.replace("WORD", "alpha"))
        await gateway.reload()
        await client.say("DATA")
        assert (await client.say("Subject: alpha\r\n\r\nx\r\n.")).startswith("250 ")
        assert (await client.send("a@city.example", ["b@city.example"], b"Subject: alpha\r\n\r\n")).startswith("550 ")
    finally:
        await client.close()
        await gateway.drain()


async def test_serve_reloads_on_sighup_and_ends_on_sigterm(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    """The signals of a worker: one that comes before the start is done waits for it; SIGTERM ends it with 0."""
    done = _reloads("done")
    settings = site.write(workers=1)
    working = asyncio.create_task(serve(settings, site.file))
    await asyncio.sleep(0)
    os.kill(os.getpid(), signal.SIGHUP)
    async with asyncio.timeout(10):
        while _reloads("done") == done:
            await asyncio.sleep(0.02)
    os.kill(os.getpid(), signal.SIGTERM)
    try:
        assert await asyncio.wait_for(working, 10) == 0
    finally:
        for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            asyncio.get_running_loop().remove_signal_handler(name)
    assert "worker cannot start" not in capfd.readouterr().err


async def test_a_worker_that_cannot_start_says_why(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    """Exit code 1 and one line, no traceback."""
    settings = site.write()
    site.rule("id: broken\n")
    try:
        assert await serve(settings, site.file) == 1
    finally:
        for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            asyncio.get_running_loop().remove_signal_handler(name)
    said = capfd.readouterr().err
    assert "error worker cannot start problem=" in said
    assert "Traceback" not in said


def test_a_certificate_that_cannot_be_used_names_its_listener(tmp_path: Path) -> None:
    """The listener and the file stand in the error."""
    (tmp_path / "c.pem").write_text("no certificate", "utf-8")
    given = {"name": "mx", "address": "127.0.0.1:0", "tls": "starttls", "tls_certificate": str(tmp_path / "c.pem"),
             "tls_key": str(tmp_path / "c.pem")}  # fmt: skip
    with pytest.raises(ConfigError, match=r"^listener mx: cannot use .*c\.pem: "):
        tls_context(ListenerSettings.model_validate(given))


def test_the_own_name_is_the_setting_or_the_machines() -> None:
    """Never empty."""
    assert own_hostname(Settings.model_validate({"smtp": {"hostname": "gw.city.example"}})) == "gw.city.example"
    assert own_hostname(Settings())
