"""A Postfix on this machine that would pass what it cannot ask about is said at the start."""

import os
import shutil
from pathlib import Path

import pytest

from gateway.preflight import preflight
from gateway.settings import Settings

pytestmark = pytest.mark.skipif(shutil.which("postconf", path="/usr/sbin:/usr/bin") is None, reason="no postconf")

OURS = "unix:/run/civicgate/milter.sock"
SERVICE = "smtp inet n - n - - smtpd\n"
"""What follows is of master.cf."""


@pytest.mark.parametrize(
    ("main", "warned"),
    [
        (f"smtpd_milters = {OURS}\n", False),
        (f"smtpd_milters = {OURS}\nmilter_default_action = accept\n", True),
        (f"smtpd_milters = inet:127.0.0.1:1, {OURS}\nmilter_default_action = quarantine\n", True),
        (f"non_smtpd_milters = {{ {OURS}, connect_timeout=10s }}\nmilter_default_action = accept\n", True),
        (f"smtpd_milters = {OURS}\nmilter_default_action = tempfail\n", False),
        (f"smtpd_milters = {{ {OURS}, default_action=tempfail }}\n", False),
        ("smtpd_milters = unix:/run/other.sock\n", False),
        ("ours = " + OURS + "\nsmtpd_milters = $ours\nmilter_default_action = accept\n", True),
        (f"smtpd_milters = {{ {OURS}, default_action=accept }}\n", True),
        ("smtpd_milters = { unix:/run/other.sock, default_action=accept } " + OURS + "\n", False),
        (f"{SERVICE}  -o smtpd_milters={OURS}\n  -o milter_default_action=accept\n", True),
        (f"{SERVICE}  -o milter_default_action=accept\n", False),
        (f"smtpd_milters = {OURS}\n{SERVICE}  -o milter_default_action=accept\n", True),
        (f"smtpd_milters = {OURS}\n{SERVICE}  -o milter_default_action=accept -o smtpd_milters=\n", False),
        ("smtpd_milters = local:/run/civicgate/milter.sock\nmilter_default_action = accept\n", True),
        ("smtpd_milters = unix:/run/other/../civicgate/milter.sock\nmilter_default_action = accept\n", True),
        (f"ours = {OURS}\n{SERVICE}  -o smtpd_milters=$ours\n  -o milter_default_action=accept\n", True),
    ],
    ids=[
        *("default", "accept", "among-others", "in-braces", "tempfail", "own-tempfail", "another", "by-a-name"),
        *("own-accept", "anothers-accept", "in-master", "in-master-without-us", "in-both", "in-master-taken-out"),
        *("local", "dots", "in-master-by-a-name"),
    ],
)
async def test_what_postfix_does_without_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, main: str, warned: bool
) -> None:
    """``milter_default_action`` of the real postconf; Postfix's own default is tempfail."""
    main, service, rest = main.partition(SERVICE)
    remarks = await _remarks(tmp_path, monkeypatch, main, service + rest, OURS)
    found = [said for said in remarks if "milter_default_action" in said]
    assert bool(found) == warned


BELOW = "unix:/var/spool/postfix/civicgate/milter.sock"


@pytest.mark.parametrize("said", [BELOW, "unix:civicgate/milter.sock", "unix:/civicgate/milter.sock"])
async def test_a_socket_in_the_queue_directory_is_known_by_each_of_its_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    """A chrooted Postfix names it otherwise than we do, and that was not seen as ours."""
    main = f"smtpd_milters = {said}\nmilter_default_action = accept\n"
    (found,) = [said for said in await _remarks(tmp_path, monkeypatch, main, "", BELOW) if "Postfix" in said]
    assert "milter_default_action = accept" in found


@pytest.mark.parametrize(
    ("address", "said", "warned"),
    [
        ("127.0.0.1:11111", "inet:localhost:11111", True),
        ("0.0.0.0:11111", "inet:mail.city.example:11111", True),
        ("127.0.0.1:11111", "inet:localhost:11112", False),
        ("127.0.0.1:11111", "inet:other.city.example:11111", False),
    ],
    ids=["localhost", "everywhere", "another-port", "another-host"],
)
async def test_a_port_is_known_by_each_of_its_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, said: str, warned: bool
) -> None:
    """A Postfix that asks «localhost» was not seen as ours."""
    main = f"smtpd_milters = {said}\nmilter_default_action = accept\n"
    found = [row for row in await _remarks(tmp_path, monkeypatch, main, "", address) if "milter_default_action" in row]
    assert bool(found) == warned


@pytest.mark.parametrize(
    ("times", "warned"),
    [("", []), ("milter_command_timeout = 20s\n", ["command"]), ("milter_content_timeout = 4m\n", ["content"])],
    ids=["postfixs-own", "command", "content"],
)
async def test_a_postfix_that_gives_up_before_we_answer_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: str, warned: list[str]
) -> None:
    """Our times must lie below the server's, whatever it is set to."""
    found = [row for row in await _remarks(tmp_path, monkeypatch, f"smtpd_milters = {OURS}\n{times}", "", OURS)
             if "gives up" in row]  # fmt: skip
    assert [word for row in found for word in ("command", "content") if f"milter_{word}_timeout" in row] == warned


CHROOTED = SERVICE.replace(" n - n - ", " n - y - ")


@pytest.mark.parametrize(
    ("main", "services", "address", "warned"),
    [
        (f"smtpd_milters = {OURS}\n", CHROOTED, OURS, ["smtp/inet"]),
        (f"smtpd_milters = {OURS}\n", SERVICE, OURS, []),
        ("", f"{CHROOTED}  -o smtpd_milters={OURS}\n", OURS, ["smtp/inet"]),
        (f"smtpd_milters = {OURS}\n", f"{CHROOTED}  -o smtpd_milters=\n", OURS, []),
        (f"non_smtpd_milters = {OURS}\n", f"{CHROOTED}cleanup unix n - y - 0 cleanup\n", OURS, ["cleanup/unix"]),
        ("smtpd_milters = unix:civicgate/milter.sock\n", CHROOTED, BELOW, []),
        ("smtpd_milters = inet:127.0.0.1:11111\n", CHROOTED, "127.0.0.1:11111", []),
    ],
    ids=["chroot", "no-chroot", "own", "taken-out", "cleanup", "below", "tcp"],
)
async def test_a_socket_that_a_chrooted_postfix_cannot_see_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, main: str, services: str, address: str, warned: list[str]
) -> None:
    """Debian's master.cf has its services in a chroot; all their mail was deferred, and nothing said why."""
    found = [said for said in await _remarks(tmp_path, monkeypatch, main, services, address) if "chroot" in said]
    assert [said.removeprefix("Postfix's ").partition(" ")[0] for said in found] == warned
    assert all("below /var/spool/postfix" in said for said in found)


async def _remarks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, main: str, services: str, address: str
) -> tuple[str, ...]:
    """Of a start with this main.cf, this master.cf and one listener."""
    (tmp_path / "main.cf").write_text("compatibility_level = 3.6\n" + main, "ascii")
    (tmp_path / "master.cf").write_text(services, "ascii")
    os.utime(tmp_path / "main.cf", (0, 0))  # Postfix's programs wait two seconds before they read one that is newer
    monkeypatch.setenv("MAIL_CONFIG", str(tmp_path))
    settings = Settings.model_validate(
        {
            "milter": {"listeners": [{"name": "beside", "address": address}]},
            "clamd": {"config_file": None},
            "next_hop": {"address": "127.0.0.1:1"},
        }
    )
    return (await preflight(settings, "h")).remarks
