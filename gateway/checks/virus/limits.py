"""Reads the limits in a clamd.conf (clamd.conf(5)) and says where they contradict the gateway's own.

Reads as clamd 1.4 does: case matters, of a repeated directive the first counts, ``#`` opens a comment at the start of
a line only. Refuses what clamd itself would not start with, for the directives that it knows; skips the others.
"""

import re
from dataclasses import dataclass, fields
from pathlib import Path

from gateway.errors import ConfigError

_SIZE = re.compile(r"(\d+)([kKmMgG]?)")
_UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
_BOOLEANS = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
_MIB = 1024**2

MESSAGE_TO_SCANSIZE = 7 / 4
"""A message with one attachment counts itself and the attachment decoded: 1 + 57/78 (RFC 2045 section 6.8)."""


@dataclass(frozen=True, slots=True)
class ClamdLimits:
    """Octets, milliseconds, counts, as they stand in the file; what is absent has clamd 1.4's default."""

    file: str = ""
    stream_max_length: int = 100 * _MIB
    max_file_size: int = 100 * _MIB
    max_scan_size: int = 400 * _MIB
    max_scan_time: int = 120_000
    max_recursion: int = 17
    max_files: int = 10_000
    max_html_normalize: int = 40 * _MIB
    max_html_no_tags: int = 8 * _MIB
    max_script_normalize: int = 20 * _MIB
    max_embedded_pe: int = 40 * _MIB
    pcre_max_file_size: int = 100 * _MIB
    alert_exceeds_max: bool = False
    scan_mail: bool = True
    scan_archive: bool = True


_DIRECTIVES = {
    "StreamMaxLength": "stream_max_length",
    "MaxFileSize": "max_file_size",
    "MaxScanSize": "max_scan_size",
    "MaxScanTime": "max_scan_time",
    "MaxRecursion": "max_recursion",
    "MaxFiles": "max_files",
    "MaxHTMLNormalize": "max_html_normalize",
    "MaxHTMLNoTags": "max_html_no_tags",
    "MaxScriptNormalize": "max_script_normalize",
    "MaxEmbeddedPE": "max_embedded_pe",
    "PCREMaxFileSize": "pcre_max_file_size",
    "AlertExceedsMax": "alert_exceeds_max",
    "ScanMail": "scan_mail",
    "ScanArchive": "scan_archive",
}
_SILENT = ("MaxHTMLNormalize", "MaxHTMLNoTags", "MaxScriptNormalize", "MaxEmbeddedPE", "PCREMaxFileSize")
"""Sizes above which clamd skips a part of its work without a word, even with AlertExceedsMax."""
_LARGEST_FILE = 2**31 - 1
"""MaxFileSize when it is 0: libclamav looks at 2 GiB at most."""
_BOOLEAN_FIELDS = frozenset(f.name for f in fields(ClamdLimits) if isinstance(f.default, bool))


def read_limits(path: Path) -> ClamdLimits:
    """The limits in the file at ``path``. Raises ConfigError with file and line."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", str(path)) from error
    values: dict[str, int | bool] = {}
    for number, line in enumerate(text.splitlines(), 1):
        row = line.strip()
        if not row or row.startswith("#"):
            continue
        directive, *rest = row.split(None, 1)
        name = _DIRECTIVES.get(directive)
        if directive == "Example":
            raise ConfigError("clamd does not start as long as the line «Example» stands", str(path), number, 1)
        if name is not None and name not in values:
            values[name] = _value(name, rest[0].strip('"') if rest else "", str(path), number)
    return ClamdLimits(file=str(path), **values)  # type: ignore[arg-type]  # booleans and numbers by field name


def _value(name: str, text: str, file: str, line: int) -> int | bool:
    if name in _BOOLEAN_FIELDS:
        known = _BOOLEANS.get(text.lower())
        if known is None:
            raise ConfigError(f"«{text}» is neither yes nor no", file, line, 1)
        return known
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ConfigError(f"«{text}» is not a number, nor a size like 200M", file, line, 1)
    return int(match[1]) * _UNITS[match[2].lower()]


def contradictions(limits: ClamdLimits, max_message_size: int, scan_timeout: float | None = None) -> list[str]:
    """Where clamd would refuse, or silently skip, what the gateway accepts; empty when all is well.

    ``max_message_size`` in octets is smtp.max_message_size, ``scan_timeout`` in seconds is clamd.scan_timeout. Each
    text names both settings with both values.
    """
    found = _size_contradictions(limits, max_message_size)
    if not limits.alert_exceeds_max:
        found.append(
            "clamd's AlertExceedsMax is no, but smtp.max_message_size is "
            f"{max_message_size}: what exceeds one of clamd's limits would count as clean; set AlertExceedsMax yes"
        )
    if limits.max_file_size and (not limits.max_scan_size or limits.max_file_size < limits.max_scan_size):
        found.append(
            f"clamd's MaxFileSize ({limits.max_file_size}) is below its MaxScanSize "
            f"({limits.max_scan_size or 'no limit'}): a zip's member is silently cut there; make them equal"
        )
    found.extend(_silent_contradictions(limits))
    if scan_timeout is not None and (not limits.max_scan_time or limits.max_scan_time > scan_timeout * 1000):
        found.append(
            f"clamd's MaxScanTime ({limits.max_scan_time or 'no limit'} ms) is above clamd.scan_timeout "
            f"({scan_timeout * 1000:.0f} ms): clamd would go on with scans that nobody waits for"
        )
    for directive, on in (("ScanMail", limits.scan_mail), ("ScanArchive", limits.scan_archive)):
        if not on:
            found.append(
                f"clamd's {directive} is no, but clamd.config_file is {limits.file or 'set'}: "
                "attachments would pass unread"
            )
    return found


def _silent_contradictions(limits: ClamdLimits) -> list[str]:
    """The limits that clamd does not report when it reaches them."""
    largest = limits.max_file_size or _LARGEST_FILE
    found = []
    for directive in _SILENT:
        value = getattr(limits, _DIRECTIVES[directive])
        if value < largest and (value or directive != "PCREMaxFileSize"):
            found.append(
                f"clamd's {directive} ({value}) is below its MaxFileSize ({limits.max_file_size or 'no limit'}): "
                "what lies between is silently skipped; make them equal"
            )
    return found


def _size_contradictions(limits: ClamdLimits, max_message_size: int) -> list[str]:
    """The three sizes that a message must fit into."""
    own = f"smtp.max_message_size ({max_message_size})"
    found = []
    if limits.stream_max_length < max_message_size:
        found.append(f"clamd's StreamMaxLength ({limits.stream_max_length}) is below {own}")
    if limits.max_file_size and limits.max_file_size < max_message_size:
        found.append(f"clamd's MaxFileSize ({limits.max_file_size}) is below {own}")
    if limits.max_scan_size and limits.max_scan_size < max_message_size * MESSAGE_TO_SCANSIZE:
        found.append(
            f"clamd's MaxScanSize ({limits.max_scan_size}) is below 1.75 times {own}: "
            "a message counts together with what is unpacked from it"
        )
    return found
