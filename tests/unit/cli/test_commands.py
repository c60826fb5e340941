"""The command line: help, exit codes, ``check``, ``health``, ``schema``, a start that is refused."""

import asyncio
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.cli.main import COMMANDS, main
from gateway.policy import schema
from tests.ports import free_port
from tests.serving import MailServer, prepare, running, settings_for

Say = Callable[..., tuple[int, str, str]]
CASE = """
id: subject
title: No such subject
source: mon/secrets
when: {header: {name: Subject, contains: [forbidden]}}
then: {reject: {text: Not this subject.}}
cases:
  - {it: refuses it, message: {from: a@city.example, to: b@city.example, subject: SUBJECT},
     expect: {disposition: reject}}
  - {it: others, message: {from: a@city.example, to: b@city.example}, expect: {disposition: pass}}
"""


@pytest.fixture
def say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Say:
    """Run a command line with a settings file in a folder of its own: exit code, output, errors."""
    (tmp_path / "rules" / "types").mkdir(parents=True)
    (tmp_path / "directory.yaml").write_text("people: []\n", "utf-8")
    config = tmp_path / "gateway.yaml"
    config.write_text(f"policy: {{rules: {tmp_path}/rules, directory: {tmp_path}/directory.yaml}}\n", "utf-8")

    def run(*words: str) -> tuple[int, str, str]:
        try:
            code = main(["--config", str(config), *words])
        except SystemExit as ended:
            code = int(ended.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_help_names_every_command(say: Say) -> None:
    """--help alone tells what there is; each command has a line."""
    code, out, _ = say("--help")
    assert code == 0
    for name in COMMANDS:
        assert f"\n    {name} " in out
    assert say("--version")[1].startswith("civicgate ")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(say: Say, name: str) -> None:
    """And it names itself."""
    code, out, _ = say(name, "--help")
    assert (code, out.split()[:3]) == (0, ["usage:", "civicgate", name])


@pytest.mark.parametrize("words", [(), ("frobnicate",), ("explain",), ("check", "--nonsense")])
def test_a_wrong_command_line_is_exit_code_2(say: Say, words: tuple[str, ...]) -> None:
    """With a way to help, on standard error."""
    code, out, err = say(*words)
    assert (code, out) == (2, "")
    assert "--help" in err


def test_config_may_stand_before_or_behind_the_command(say: Say, tmp_path: Path) -> None:
    """A file that is not there is named, wherever it was given; the last one counts."""
    for words in (("--config=/nowhere.yaml", "check"), ("check", "--config", "/nowhere.yaml")):
        code, _, err = say(*words)
        assert (code, err) == (1, "/nowhere.yaml: cannot be read: No such file or directory\n")


def test_check_passes_what_is_shipped(capsys: pytest.CaptureFixture[str]) -> None:
    """The shipped rules, directory and types hold all their cases; -v names each."""
    assert main(["check", "-v"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines()[-1].endswith(" 0 failed")
    assert sum(line.startswith("ok  ") for line in out.splitlines()) > 50


def test_check_is_0_for_good_rules(say: Say, tmp_path: Path) -> None:
    """One rule with two cases."""
    (tmp_path / "rules" / "a.yaml").write_text(CASE.replace("SUBJECT", "forbidden"), "utf-8")
    assert say("check") == (0, "1 rules, 0 information types, 0 people, 0 lists; 2 cases, 0 failed\n", "")


def test_check_is_1_for_a_case_that_fails(say: Say, tmp_path: Path) -> None:
    """The case is named with what came out; the summary counts it."""
    (tmp_path / "rules" / "a.yaml").write_text(CASE.replace("SUBJECT", "harmless"), "utf-8")
    code, out, err = say("check")
    assert (code, out.splitlines()[-1].split("; ")[1]) == (1, "2 cases, 1 failed")
    assert "refuses it" in err
    assert "a.yaml" in err


def test_check_is_1_for_a_rule_that_cannot_be_read(say: Say, tmp_path: Path) -> None:
    """File, line and column; no summary, for nothing was tried."""
    (tmp_path / "rules" / "a.yaml").write_text("id: a\ntitel: x\n", "utf-8")
    code, out, err = say("check")
    assert (code, out) == (1, "")
    assert "a.yaml:2:1: unknown key «titel», did you mean «title»?" in err


def test_check_is_1_for_a_clause_that_nobody_can_look_up(say: Say, tmp_path: Path) -> None:
    """Regression: rules and types could cite a clause that policy.clauses does not have. Each with its place."""
    rule = CASE.replace("SUBJECT", "forbidden").replace("source: mon/secrets", "source: [mon/secrets, mon/secret]")
    (tmp_path / "rules" / "a.yaml").write_text(rule, "utf-8")
    text = Path("rules/types/us-ssn.yaml").read_text("utf-8").replace("roc/types", "xyz/nothing", 1)
    (tmp_path / "rules" / "types" / "us-ssn.yaml").write_text(text, "utf-8")
    code, out, err = say("check")
    assert (code, out.splitlines()[-1].rsplit(", ", 1)[1]) == (1, "2 failed")
    assert "a.yaml:4:23: clause «mon/secret» is not known, did you mean «mon/secrets»?" in err
    assert "us-ssn.yaml:4:10: clause «xyz/nothing» is not known" in err


def test_check_is_1_for_a_fallback_role_that_is_none(say: Say, tmp_path: Path) -> None:
    """Regression: a misspelt hold.fallback_role was found out when mail waited that nobody could decide."""
    rule = CASE.replace("SUBJECT", "forbidden").replace("{reject: {text: Not this subject.}}", "{hold: HOLD}")
    rule = rule.replace("HOLD", "{queue: q, reason: Somebody has to look.}").replace(
        "disposition: reject", "disposition: hold"
    )
    (tmp_path / "rules" / "a.yaml").write_text(rule, "utf-8")
    code, _, err = say("check")
    assert (code, err) == (1, "hold.fallback_role: no role «it-director» in the directory\n")


def test_check_is_1_for_a_type_that_does_not_hold_its_cases(say: Say, tmp_path: Path) -> None:
    """Information types have cases of their own."""
    text = Path("rules/types/us-ssn.yaml").read_text("utf-8").replace("536-90-4399", "536-00-4399")
    (tmp_path / "rules" / "types" / "us-ssn.yaml").write_text(text, "utf-8")
    code, _, err = say("check")
    assert code == 1
    assert "types/us-ssn.yaml: " in err
    assert ": expected 1, found 0" in err


def test_schema_is_the_rules_schema(say: Say) -> None:
    """Valid JSON, the same that the package gives."""
    code, out, _ = say("schema")
    assert (code, json.loads(out)) == (0, schema())


def _listening_on(tmp_path: Path, listeners: str) -> None:
    with (tmp_path / "gateway.yaml").open("a", encoding="utf-8") as file:
        file.write(f"listeners: {listeners}\n")


async def test_health_is_0_when_the_gateway_answers(say: Say, tmp_path: Path, server: MailServer) -> None:
    """EHLO answered 250; the address of every interface is asked on this machine."""
    _listening_on(tmp_path, f"[{{name: a, address: '0.0.0.0:{server.port}'}}]")
    code, out, err = await asyncio.to_thread(say, "health")
    assert (code, out, err) == (0, f"0.0.0.0:{server.port} answers 250\n", "")
    code, out, err = await asyncio.to_thread(say, "health", "--json")
    assert (code, json.loads(out)["healthy"], err) == (0, True, "")
    assert server.commands[0].startswith("ehlo health.civicgate.invalid")


def test_health_is_1_when_nobody_answers(say: Say, tmp_path: Path) -> None:
    """The address and the reason are told."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        _listening_on(tmp_path, f"[{{name: a, address: '127.0.0.1:{port}'}}]")
        code, out, err = say("health")
    assert (code, out) == (1, "")
    assert err.startswith(f"127.0.0.1:{port} does not answer: ")


def test_health_cannot_ask_a_listener_that_wants_something_first(say: Say, tmp_path: Path) -> None:
    """PROXY headers and TLS from the first octet: said, not hung on."""
    _listening_on(tmp_path, "[{name: a, address: '127.0.0.1:1', proxy_protocol: true}]")
    code, _, err = say("health")
    assert code == 1
    assert "No listener can be asked" in err
    code, out, err = say("health", "--json")
    assert (code, json.loads(out)["healthy"], err) == (1, False, "")


def _milter_alone(tmp_path: Path, address: str) -> None:
    with (tmp_path / "gateway.yaml").open("a", encoding="utf-8") as file:
        file.write(f"listeners: []\nmilter: {{listeners: [{{name: beside, address: '{address}'}}]}}\n")


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
async def test_health_asks_a_milter_where_there_is_no_other_listener(
    say: Say, tmp_path: Path, server: MailServer, unix: bool
) -> None:
    """A gateway that is nothing but a milter was called ill for ever, and a container of it started again and again."""
    address = f"unix:{tmp_path}/m.sock" if unix else f"127.0.0.1:{free_port()}"
    listening = {"listeners": [{"name": "beside", "address": address}]}
    prepare(tmp_path / "g")
    _milter_alone(tmp_path, address)
    code, out, err = await asyncio.to_thread(say, "health")
    assert (code, out) == (1, "")
    assert err.startswith(f"{address} does not answer: ")
    async with running(settings_for(tmp_path / "g", server, milter=listening)):
        code, out, err = await asyncio.to_thread(say, "health")
    assert (code, out, err) == (0, f"{address} answers as a milter\n", "")


async def test_health_does_not_take_anything_for_a_milter(say: Say, tmp_path: Path, server: MailServer) -> None:
    """A mail server on that port says 220, which is no answer."""
    _milter_alone(tmp_path, f"127.0.0.1:{server.port}")
    code, out, err = await asyncio.to_thread(say, "health")
    assert (code, out, err) == (1, "", f"127.0.0.1:{server.port} does not answer as a milter\n")


def _run(config: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway", "--config", str(config), "run"],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


def test_run_refuses_to_start_on_contradictions_and_on_taken_ports(tmp_path: Path) -> None:
    """Exit code 1 and both sides by name; nothing is left running."""
    shutil.copy("deploy/clamd.conf", tmp_path / "clamd.conf")
    (tmp_path / "directory.yaml").write_text("people: []\n", "utf-8")
    (tmp_path / "rules" / "types").mkdir(parents=True)
    config = tmp_path / "gateway.yaml"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        text = (
            f"listeners: [{{name: a, address: '127.0.0.1:{port}'}}]\nnext_hop: {{address: '127.0.0.1:1'}}\n"
            f"metrics: {{address: '127.0.0.1:0', directory: {tmp_path}/metrics}}\nspool: {{directory: {tmp_path}}}\n"
            f"policy: {{rules: {tmp_path}/rules, directory: {tmp_path}/directory.yaml}}\n"
            f"clamd: {{config_file: {tmp_path}/clamd.conf}}\nsmtp: {{max_message_size: 500 MB}}\n"
            "console: {enabled: false}\n"
        )
        config.write_text(text, "utf-8")
        busy = _run(config)
    assert (busy.returncode, busy.stderr) == (1, f"cannot listen on 127.0.0.1:{port}: Address already in use\n")
    contradicting = _run(config)
    assert contradicting.returncode == 1
    assert "clamd's StreamMaxLength (209715200) is below smtp.max_message_size (500000000)" in contradicting.stderr
    assert "warning the next hop (127.0.0.1:1) cannot be asked for its SIZE now" in contradicting.stderr
    assert "Traceback" not in contradicting.stderr
