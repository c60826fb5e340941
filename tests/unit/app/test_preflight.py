"""What must fit together before a start: each contradiction names both sides, what cannot be asked is a remark."""

import socket
from pathlib import Path
from typing import Any

import pytest

from gateway.preflight import Preflight, preflight
from tests.serving import MailServer, settings_for

CLAMD = Path("deploy/clamd.conf")


async def _look(folder: Path, server: MailServer, **changes: Any) -> Preflight:
    return await preflight(settings_for(folder, server, **changes), "gateway.city.example")


def _conf(folder: Path, **directives: str) -> dict[str, Any]:
    """deploy/clamd.conf with some directives changed, as settings."""
    rows = [row for row in CLAMD.read_text("utf-8").splitlines() if row.split(" ")[0] not in directives]
    path = folder / "clamd.conf"
    path.write_text("\n".join([*rows, *(f"{name} {value}" for name, value in directives.items() if value)]), "utf-8")
    return {"config_file": str(path)}


async def test_what_is_shipped_fits_together(tmp_path: Path, server: MailServer) -> None:
    """deploy/clamd.conf and the default settings have no contradiction and need no remark."""
    assert await _look(tmp_path, server, clamd={"config_file": str(CLAMD)}) == Preflight((), ())


@pytest.mark.parametrize(
    ("directive", "value", "ours"),
    [
        ("StreamMaxLength", "100M", "smtp.max_message_size (150000000)"),
        ("MaxFileSize", "100M", "smtp.max_message_size (150000000)"),
        ("MaxScanSize", "150M", "smtp.max_message_size (150000000)"),
        ("AlertExceedsMax", "no", "smtp.max_message_size"),
        ("MaxScanTime", "600000", "clamd.scan_timeout (60000 ms)"),
        ("MaxHTMLNormalize", "10M", "MaxFileSize"),
        ("ScanMail", "no", "clamd.config_file"),
        ("StreamMaxLength", "", "smtp.max_message_size (150000000)"),
    ],
)
async def test_clamds_limits_contradict_by_name(
    tmp_path: Path, server: MailServer, directive: str, value: str, ours: str
) -> None:
    """A limit of clamd's below ours keeps the gateway from starting; both settings stand in the error."""
    found = await _look(tmp_path, server, clamd=_conf(tmp_path, **{directive: value}))
    naming = [error for error in found.errors if f"clamd's {directive} " in error]
    assert naming
    assert any(ours in error for error in naming)


async def test_a_smaller_message_size_resolves_the_contradiction(tmp_path: Path, server: MailServer) -> None:
    """The other way round works as well: lower our own limit."""
    clamd = _conf(tmp_path, StreamMaxLength="100M")
    assert (await _look(tmp_path, server, clamd=clamd)).errors
    assert not (await _look(tmp_path, server, clamd=clamd, smtp={"max_message_size": "100 MB"})).errors


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"config_file": ""}, "clamd.config_file is not set"),
        ({"config_file": "/nowhere/clamd.conf"}, "/nowhere/clamd.conf: cannot be read: No such file"),
    ],
)
async def test_limits_that_cannot_be_read_are_a_remark(
    tmp_path: Path, server: MailServer, changes: dict[str, str], words: str
) -> None:
    """Clamd on another machine keeps nobody from starting, but it is said."""
    found = await _look(tmp_path, server, clamd=changes)
    assert found.errors == ()
    (remark,) = found.remarks
    assert words in remark
    assert "smtp.max_message_size" in remark


async def test_a_bad_line_in_clamds_file_is_told_with_its_place(tmp_path: Path, server: MailServer) -> None:
    """File and line, as for our own files."""
    found = await _look(tmp_path, server, clamd=_conf(tmp_path, MaxFileSize="plenty"))
    assert f"{tmp_path}/clamd.conf:" in found.remarks[0]
    assert "«plenty»" in found.remarks[0]


@pytest.mark.parametrize(
    ("keyword", "errors"),
    [("SIZE 10240000", 1), ("SIZE 149999999", 1), ("SIZE 150000000", 0), ("SIZE 0", 0), ("SIZE", 0), ("DSN", 0)],
)
async def test_the_next_hops_size_is_compared(tmp_path: Path, server: MailServer, keyword: str, errors: int) -> None:
    """What it would refuse is not announced; both numbers stand in the error. SIZE 0 is no limit (RFC 1870)."""
    server.keywords = ("PIPELINING", keyword)
    found = await _look(tmp_path, server, clamd={"config_file": str(CLAMD)})
    assert len(found.errors) == errors
    for error in found.errors:
        assert "smtp.max_message_size announces SIZE 150000000" in error
        assert f"127.0.0.1:{server.port}" in error
        assert keyword in error


async def test_a_next_hop_that_is_down_is_a_remark(tmp_path: Path, server: MailServer) -> None:
    """It may come up after us."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    found = await _look(tmp_path, server, clamd={"config_file": str(CLAMD)}, next_hop={"address": address})
    assert found.errors == ()
    (remark,) = found.remarks
    assert f"({address}) cannot be asked for its SIZE now" in remark


async def test_a_spool_without_room_is_an_error(tmp_path: Path, server: MailServer) -> None:
    """SIZE is a promise: the disk must have room for one message, also where the folder is not made yet."""
    clamd = {"config_file": ""}
    spool = {"directory": str(tmp_path / "not" / "made" / "yet")}
    found = await _look(tmp_path, server, clamd=clamd, spool=spool, smtp={"max_message_size": "900000 GB"},
                        next_hop={"address": "127.0.0.1:1"})  # fmt: skip
    (error,) = found.errors
    assert f"spool.directory ({tmp_path}/not/made/yet) has room for " in error
    assert "smtp.max_message_size announces SIZE 900000000000000" in error
    assert not (tmp_path / "not").exists()


async def test_a_next_hop_whose_name_is_not_seen_as_the_citys_is_a_remark(tmp_path: Path, server: MailServer) -> None:
    """What it takes for its own name goes to the same people and lists, past every rule about recipients."""
    for domains, remarks in ((["example"], 1), (["example", "sink.example"], 0), (["*.example"], 0)):
        network = {"internal_domains": domains}
        found = await _look(tmp_path, server, clamd={"config_file": str(CLAMD)}, network=network)
        assert found.errors == ()
        assert len(found.remarks) == remarks
        for remark in found.remarks:
            assert "calls itself sink.example" in remark
            assert "network.internal_domains" in remark
