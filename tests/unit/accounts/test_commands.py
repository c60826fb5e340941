"""``civicgate users`` and ``civicgate tokens``: what they ask, print, change and leave in the record."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher

from gateway.accounts import passwords
from gateway.cli.main import main

CLERK, IDA = "clerk@city.example", "it-director@city.example"
PASSWORD = "three wooden bridges"
Say = Callable[..., tuple[int, str, str]]
DIRECTORY = f"""
people:
  - {{address: {CLERK}, name: Chris Clerk, aliases: [c.clerk@city.example]}}
  - {{address: {IDA}, name: Kim Cable}}
"""


class Terminal(io.StringIO):
    """Standard input that is one."""

    def isatty(self) -> bool:
        """It is."""
        return True


@pytest.fixture
def say(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Say:
    """Run a command on a store of its own; exit code, output, errors."""
    monkeypatch.setattr(passwords, "_HASHER", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    (tmp_path / "directory.yaml").write_text(DIRECTORY, "utf-8")
    (tmp_path / "gateway.yaml").write_text(
        f"store: {{directory: {tmp_path}/store, key_file: {tmp_path}/store/body.key}}\n"
        f"policy: {{directory: {tmp_path}/directory.yaml}}\n"
        "console: {base_url: 'https://mail.city.example/gate'}\n",
        "utf-8",
    )

    def run(*words: str, typed: str | io.StringIO = "") -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(typed) if isinstance(typed, str) else typed)
        code = main(["--config", str(tmp_path / "gateway.yaml"), *words])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def _json(answer: tuple[int, str, str]) -> Any:
    assert answer[0] == 0, answer
    return json.loads(answer[1])


def test_first_administrator(say: Say) -> None:
    """Nobody is there; one command and a password on standard input make the first."""
    assert say("users", "list")[1].startswith(
        "There are no accounts. Make the first: civicgate users add ADDRESS --admin"
    )
    code, out, err = say("users", "add", IDA, "--admin", typed=PASSWORD + "\n")
    assert (code, out, err) == (0, f"{IDA} may log in: https://mail.city.example/gate\n", "")
    (row,) = _json(say("users", "list", "--json"))
    assert (row["address"], row["admin"], row["state"], row["has_totp"]) == (IDA, True, "active", False)
    table = say("users", "list")[1]
    assert "LAST LOGIN" in table
    assert "never" in table
    assert PASSWORD not in table + out


def test_password_is_asked_for_twice_on_a_terminal(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not shown, compared; a bad one is said before it must be typed again, and nothing is made."""
    typed: list[str] = []
    monkeypatch.setattr("getpass.getpass", lambda prompt: typed.pop(0))
    typed[:] = ["short"]
    code, _, err = say("users", "add", CLERK, typed=Terminal())
    assert (code, "at least 12 characters" in err) == (1, True)
    typed[:] = [PASSWORD, PASSWORD + "!"]
    code, _, err = say("users", "add", CLERK, typed=Terminal())
    assert (code, err) == (1, "civicgate: The two passwords are not the same.\n")
    assert _json(say("users", "list", "--json")) == []
    typed[:] = [PASSWORD, PASSWORD]
    assert say("users", "add", CLERK, typed=Terminal())[0] == 0


def test_link_instead_of_a_password(say: Say) -> None:
    """It names the console as people reach it, is shown once, and the account cannot be used before."""
    made = _json(say("users", "add", CLERK, "--link", "--json"))
    assert made["state"] == "no password yet"
    assert made["link"].startswith("https://mail.city.example/gate/setup/")
    assert len(made["link"].rpartition("/")[2]) == 43
    code, out, _ = say("users", "passwd", CLERK, "--link")
    assert (code, "once, until" in out) == (0, True)
    assert made["link"] not in out, "another link; the first is dead"


def test_changes_and_their_refusals(say: Say) -> None:
    """passwd, disable, enable, reset-totp; an alias is the same person; an unknown account is said."""
    say("users", "add", "C.CLERK@city.example", typed=PASSWORD)
    assert say("users", "add", CLERK, typed=PASSWORD)[::2] == (1, f"civicgate: There is an account {CLERK} already.\n")
    assert say("users", "passwd", CLERK, typed="password1234")[0] == 1
    assert say("users", "passwd", CLERK, typed="seven silent rivers")[0] == 0
    assert _json(say("users", "disable", CLERK, "--json"))["state"] == "disabled"
    assert say("users", "list")[1].count("disabled") == 1
    assert _json(say("users", "enable", "c.clerk@city.example", "--json"))["state"] == "active"
    assert say("users", "reset-totp", CLERK)[:2] == (
        0, f"{CLERK} has no second factor any more; its sessions are ended.\n",
    )  # fmt: skip
    for action in ("passwd", "disable", "enable", "reset-totp"):
        code, out, err = say("users", action, "nobody@city.example", typed=PASSWORD)
        assert (code, out, err) == (1, "", "civicgate: There is no account nobody@city.example.\n")
    assert _json(say("users", "list", "--json"))[0]["sessions"] == 0
    assert say("users", "sessions", CLERK)[1] == f"{CLERK} is not logged in.\n"
    assert _json(say("users", "sessions", CLERK, "--json")) == []
    assert say("users", "end-sessions", CLERK)[1] == f"{CLERK} was not logged in.\n"
    assert _json(say("users", "end-sessions", CLERK, "--json")) == {"address": CLERK, "ended": False}
    code, _, err = say("users", "add", "guest@elsewhere.example", typed=PASSWORD)
    assert (code, "the directory does not know guest@elsewhere.example" in err) == (0, True)
    assert say("users", "add", "no address", typed=PASSWORD)[0] == 1
    history = _json(say("users", "history", CLERK, "--json"))
    assert [row["event"] for row in history][:3] == ["account-added", "password-set", "password-set"]
    assert {row["actor"] for row in history} == {"civicgate users"}
    assert "totp-reset" in say("users", "history", CLERK)[1]
    verified = say("hold", "verify")
    assert verified[0] == 0
    assert verified[1].startswith("8 events, none altered.")


def _administrators(say: Say) -> set[str]:
    return {row["address"] for row in _json(say("users", "list", "--json")) if row["admin"]}


def test_the_right_to_administer_is_granted_and_revoked(say: Say) -> None:
    """After an account exists: twice does nothing twice, each change is in the record, an unknown account is said."""
    say("users", "add", IDA, "--admin", typed=PASSWORD)
    say("users", "add", CLERK, typed=PASSWORD)
    for _ in range(2):
        assert say("users", "grant-admin", "c.clerk@city.example") == (0, f"{CLERK} administers the console.\n", "")
    assert _administrators(say) == {CLERK, IDA}
    for _ in range(2):
        assert _json(say("users", "revoke-admin", CLERK, "--json"))["admin"] is False
    assert _administrators(say) == {IDA}
    record = [row["event"] for row in _json(say("users", "history", CLERK, "--json"))]
    assert record == ["account-added", "password-set", "admin-granted", "admin-revoked"]
    for action in ("grant-admin", "revoke-admin"):
        code, out, err = say("users", action, "nobody@city.example")
        assert (code, out, err) == (1, "", "civicgate: There is no account nobody@city.example.\n")


def test_the_last_administrator_stays(say: Say, tmp_path: Path) -> None:
    """Refused while no other can log in and administer: accounts that are disabled or have no password do not count."""
    last = f"civicgate: {IDA} is the last who can administer the console. Make another administrator first: "
    last += "civicgate users grant-admin ADDRESS.\n"
    say("users", "add", IDA, "--admin", typed=PASSWORD)
    assert say("users", "revoke-admin", IDA) == (1, "", last)
    say("users", "add", CLERK, "--admin", "--link")
    assert say("users", "revoke-admin", IDA) == (1, "", last), "a link is no login yet"
    say("users", "passwd", CLERK, typed=PASSWORD)
    say("users", "disable", CLERK)
    assert say("users", "revoke-admin", IDA) == (1, "", last), "disabled"
    assert _administrators(say) == {CLERK, IDA}
    assert say("users", "revoke-admin", CLERK)[0] == 0, "who cannot log in administers nothing"
    say("users", "enable", CLERK)
    say("users", "grant-admin", CLERK)
    assert say("users", "revoke-admin", IDA)[:2] == (0, f"{IDA} does not administer the console any more.\n")
    (tmp_path / "directory.yaml").write_text(f"{DIRECTORY}roles:\n  it-director: [{IDA}]\n", "utf-8")
    assert say("users", "revoke-admin", CLERK)[0] == 0, "the other administers by role, with a password"
    say("users", "grant-admin", IDA)
    told = f"{IDA} administers the console still, as holder of the role it-director in the directory.\n"
    assert say("users", "revoke-admin", IDA)[:2] == (0, told)


def test_with_a_provider_holders_of_the_role_need_no_account(say: Say, tmp_path: Path) -> None:
    """They log in there; but not when their account is disabled, which holds for every way in."""
    text = (tmp_path / "gateway.yaml").read_text("utf-8")
    provider = ", oidc: {issuer: 'https://id.city.example', client_id: civicgate}}"
    say("users", "add", CLERK, "--admin", typed=PASSWORD)
    (tmp_path / "directory.yaml").write_text(f"{DIRECTORY}roles:\n  it-director: [{IDA}]\n", "utf-8")
    assert say("users", "revoke-admin", CLERK)[0] == 1
    (tmp_path / "gateway.yaml").write_text(text.replace("gate'}", f"gate'{provider}"), "utf-8")
    say("users", "add", IDA, "--link")
    say("users", "disable", IDA)
    assert say("users", "revoke-admin", CLERK)[0] == 1
    say("users", "enable", IDA)
    assert say("users", "revoke-admin", CLERK)[0] == 0


def test_tokens_are_made_listed_and_revoked(say: Say) -> None:
    """Shown once, for a person of the directory, until a date; then only what it is for can be seen."""
    made = _json(
        say(
            "tokens", "add", "tickets", "--for", "c.clerk@city.example", "--scope", "decide", "--until", "90d", "--json"
        )
    )
    assert made["token"].startswith("civicgate_")
    assert (made["address"], made["scope"], made["state"]) == (CLERK, "decide", "active")
    out = say("tokens", "add", "report", "--for", CLERK, "--scope", "read", "--until", "2099-12-31")[1]
    assert "It is shown only now:\ncivicgate_" in out
    listed = say("tokens", "list")[1]
    assert made["token"] not in listed
    assert listed.count("active") == 2
    assert made["token"] not in json.dumps(_json(say("tokens", "list", "--json")))
    assert say("tokens", "revoke", made["id"])[:2] == (0, f"{made['id']} «tickets» is revoked.\n")
    assert [row["name"] for row in _json(say("tokens", "list", "--json"))] == ["report"]
    assert {row["name"]: row["state"] for row in _json(say("tokens", "list", "--all", "--json"))} == {
        "tickets": "revoked", "report": "active",
    }  # fmt: skip
    begin = ("add", "x", "--scope", "read")
    for words in (
        ("revoke", made["id"]), ("revoke", "nothing"), (*begin, "--for", "nobody@city.example", "--until", "1d"),
        (*begin, "--for", CLERK, "--until", "2020-01-01"), (*begin, "--for", CLERK, "--until", "soon"),
    ):  # fmt: skip
        code, out, err = say("tokens", *words)
        assert (code, out) == (1, "")
        assert err.startswith("civicgate: ")
    with pytest.raises(SystemExit):
        say("tokens", "add", "x", "--for", CLERK, "--scope", "all", "--until", "1d")
