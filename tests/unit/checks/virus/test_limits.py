"""Limits in clamd.conf: read as clamd reads them, and compared with the gateway's."""

from dataclasses import replace
from pathlib import Path

import pytest

from deploy.dev.clamd import SHIPPED, TINY_DATABASE, running_clamd
from gateway.checks.virus import ClamdLimits, contradictions, read_limits
from gateway.errors import ConfigError
from gateway.settings import Settings

MIB = 1024**2
GOOD = ClamdLimits(
    stream_max_length=200 * MIB,
    max_file_size=600 * MIB,
    max_scan_size=600 * MIB,
    max_scan_time=50_000,
    alert_exceeds_max=True,
    max_html_normalize=600 * MIB,
    max_html_no_tags=600 * MIB,
    max_script_normalize=600 * MIB,
    max_embedded_pe=600 * MIB,
    pcre_max_file_size=600 * MIB,
)
MAIL = 150_000_000


def write(path: Path, text: str) -> Path:
    """The text as a clamd.conf."""
    path.write_text(text, encoding="utf-8")
    return path


def test_shipped_file_agrees_with_the_default_settings() -> None:
    """The clamd.conf that we ship and our own defaults do not contradict each other."""
    limits = read_limits(SHIPPED)
    settings = Settings()
    assert contradictions(limits, settings.smtp.max_message_size, settings.clamd.scan_timeout) == []
    assert limits.alert_exceeds_max
    assert limits.stream_max_length == 200 * MIB


def test_stock_configuration_is_refused() -> None:
    """Clamd's own defaults skip limits silently and are too small: both is said."""
    found = contradictions(ClamdLimits(), MAIL)
    assert any("AlertExceedsMax" in row for row in found)
    assert any("StreamMaxLength" in row for row in found)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"stream_max_length": MAIL - 1}, ("StreamMaxLength", "149999999", "smtp.max_message_size", "150000000")),
        ({"stream_max_length": 0}, ("StreamMaxLength", "(0)", "smtp.max_message_size", "150000000")),
        (
            {"max_file_size": MAIL - 1, "max_scan_size": MAIL - 1},
            ("MaxFileSize", "149999999", "smtp.max_message_size", "150000000"),
        ),
        ({"max_scan_size": 200_000_000}, ("MaxScanSize", "200000000", "smtp.max_message_size", "150000000")),
        ({"alert_exceeds_max": False}, ("AlertExceedsMax", "no", "smtp.max_message_size", "150000000")),
        ({"max_file_size": 400 * MIB}, ("MaxFileSize", str(400 * MIB), "MaxScanSize", str(600 * MIB))),
        ({"max_scan_size": 0}, ("MaxFileSize", str(600 * MIB), "MaxScanSize", "no limit")),
        ({"max_scan_time": 60_001}, ("MaxScanTime", "60001", "clamd.scan_timeout", "60000")),
        ({"max_scan_time": 0}, ("MaxScanTime", "no limit", "clamd.scan_timeout", "60000")),
        ({"max_html_normalize": 5}, ("MaxHTMLNormalize", "(5)", "MaxFileSize", str(600 * MIB))),
        ({"max_html_no_tags": 0}, ("MaxHTMLNoTags", "(0)", "MaxFileSize", str(600 * MIB))),
        ({"max_script_normalize": 5}, ("MaxScriptNormalize", "(5)", "MaxFileSize", str(600 * MIB))),
        ({"max_embedded_pe": 5}, ("MaxEmbeddedPE", "(5)", "MaxFileSize", str(600 * MIB))),
        ({"pcre_max_file_size": 5}, ("PCREMaxFileSize", "(5)", "MaxFileSize", str(600 * MIB))),
        ({"max_file_size": 0}, ("MaxHTMLNormalize", str(600 * MIB), "MaxFileSize", "no limit")),
        ({"scan_mail": False}, ("ScanMail", "no", "clamd.config_file")),
        ({"scan_archive": False}, ("ScanArchive", "no", "clamd.config_file")),
    ],
)
def test_each_contradiction_names_both(change: dict[str, int | bool], words: tuple[str, ...]) -> None:
    """One wrong limit gives a text that names both settings and both values."""
    assert contradictions(GOOD, MAIL, 60.0) == []
    found = contradictions(replace(GOOD, **change), MAIL, 60.0)  # type: ignore[arg-type]  # field names from the table
    assert any(all(word in row for word in words) for row in found), found


def test_unlimited_sizes_are_no_contradiction() -> None:
    """0 switches MaxFileSize, MaxScanSize and PCREMaxFileSize off in clamd."""
    most = 2**31 - 1
    unlimited = replace(
        GOOD,
        max_file_size=0,
        max_scan_size=0,
        pcre_max_file_size=0,
        max_html_normalize=most,
        max_html_no_tags=most,
        max_script_normalize=most,
        max_embedded_pe=most,
    )
    assert contradictions(unlimited, MAIL, 60.0) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("MaxScanSize 5m\n", 5 * MIB),
        ("MaxScanSize\t5K \n", 5 * 1024),
        ("  MaxScanSize 2G\r\n", 2048 * MIB),
        ('MaxScanSize "12345"\n', 12345),
        ("#MaxScanSize 1M\nMaxScanSize 2M\nMaxScanSize 3M\n", 2 * MIB),
        ("maxscansize 1M\nOther thing\n", 400 * MIB),
    ],
)
def test_reading(tmp_path: Path, text: str, expected: int) -> None:
    """Units, white space, comments, case and repetition as clamd has them; what is absent is clamd's default."""
    assert read_limits(write(tmp_path / "c", text)).max_scan_size == expected


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("\nMaxScanSize 5X\n", 2),
        ("MaxScanSize\n", 1),
        ("MaxScanSize 5 # five\n", 1),
        ("AlertExceedsMax on\n", 1),
        ("Example\n", 1),
    ],
)
def test_refused(tmp_path: Path, text: str, line: int) -> None:
    """What clamd would not start with is an error with file and line."""
    path = write(tmp_path / "clamd.conf", text)
    with pytest.raises(ConfigError) as raised:
        read_limits(path)
    assert (raised.value.file, raised.value.line) == (str(path), line)


def test_missing_file(tmp_path: Path) -> None:
    """A file that is not there is an error that names it."""
    with pytest.raises(ConfigError, match=r"nowhere\.conf: cannot be read"):
        read_limits(tmp_path / "nowhere.conf")


@pytest.mark.real
@pytest.mark.usefixtures("clamd")
def test_clamd_reads_the_same(tmp_path: Path) -> None:
    """Clamd's log says the limits that we read from its file, a repeated directive included."""
    with running_clamd(tmp_path, database=TINY_DATABASE, changes={"MaxRecursion": "5\nMaxRecursion 9"}):
        limits = read_limits(tmp_path / "clamd.conf")
        log = (tmp_path / "clamd.log").read_text(encoding="utf-8")
    assert limits.max_recursion == 5
    assert f"Recursion level limit set to {limits.max_recursion}." in log
    assert f"Global size limit set to {limits.max_scan_size} bytes" in log
    assert f"File size limit set to {limits.max_file_size} bytes" in log
    assert f"Global time limit set to {limits.max_scan_time} milliseconds" in log
    assert f"MaxHTMLNormalize limit set to {limits.max_html_normalize} bytes" in log
    assert f"PCREMaxFileSize limit set to {limits.pcre_max_file_size}." in log
    assert f"Files limit set to {limits.max_files}." in log
    assert "Heuristic alerting enabled for scans that exceed set maximums" in log
