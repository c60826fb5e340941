"""A Postfix on this machine that would pass what it cannot ask about is said at the start."""

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
    ],
    ids=[
        *("default", "accept", "among-others", "in-braces", "tempfail", "own-tempfail", "another", "by-a-name"),
        *("own-accept", "anothers-accept", "in-master", "in-master-without-us", "in-both", "in-master-taken-out"),
    ],
)
async def test_what_postfix_does_without_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, main: str, warned: bool
) -> None:
    """``milter_default_action`` of the real postconf; Postfix's own default is tempfail."""
    main, service, rest = main.partition(SERVICE)
    (tmp_path / "main.cf").write_text("compatibility_level = 3.6\n" + main, "ascii")
    (tmp_path / "master.cf").write_text(service + rest, "ascii")
    monkeypatch.setenv("MAIL_CONFIG", str(tmp_path))
    settings = Settings.model_validate(
        {
            "milter": {"listeners": [{"name": "beside", "address": OURS}]},
            "clamd": {"config_file": None},
            "next_hop": {"address": "127.0.0.1:1"},
        }
    )
    found = [remark for remark in (await preflight(settings, "h")).remarks if "milter_default_action" in remark]
    assert bool(found) == warned
