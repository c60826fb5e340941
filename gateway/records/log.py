"""How the gateway writes its log: one line an event on standard error, ``key=value`` or JSON, through structlog.

Values come from strangers: whatever could break a line or colour a terminal is escaped when it is written, once, so
that it can be read back. key=value: a value stands as it is, or in quotes with the escapes of a Python string; JSON
has its own escapes for the same characters.
"""

import sys
import time
from collections.abc import MutableMapping
from typing import Any, TextIO, cast

import structlog

from gateway.settings import LogSettings

Fields = MutableMapping[str, Any]


def _escape(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


class _Timestamp:
    """ISO 8601 in UTC with milliseconds; the date part is made once a second."""

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def __call__(self, _: Any, __: str, fields: Fields) -> Fields:
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second, self._text = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return {"time": f"{self._text}.{int((now - second) * 1000):03d}Z", **fields}


def _level(_: Any, method: str, fields: Fields) -> Fields:
    fields["level"] = method
    return fields


def _quote(value: Any) -> str:
    text = str(value)
    if text and " " not in text and '"' not in text and "=" not in text and text.isprintable():
        return text
    return '"' + _escape(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def _keyvalue(_: Any, __: str, fields: Fields) -> str:
    event = _escape(str(fields.pop("event", "")))
    when = fields.pop("time", "")
    level = fields.pop("level", "info")
    rest = " ".join(f"{key}={_quote(value)}" for key, value in fields.items() if value != "")
    return f"{when} {level} {event} {rest}" if rest else f"{when} {level} {event}"


_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def logger(settings: LogSettings) -> Any:
    """Make structlog write as the settings say, in this process, and return a logger."""
    renderer = structlog.processors.JSONRenderer() if settings.format == "json" else _keyvalue
    structlog.configure(
        processors=[_level, _Timestamp(), renderer],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[settings.level]),
        context_class=dict,
        logger_factory=lambda *_: structlog.WriteLogger(cast("TextIO", _StandardError())),
        cache_logger_on_first_use=True,
    )
    return structlog.get_logger().bind()


class _StandardError:
    """Standard error, looked up at each write so that redirection works, one write a line."""

    def write(self, text: str) -> None:
        """As a text file does."""
        sys.stderr.write(text)

    def flush(self) -> None:
        """As a text file does."""
        sys.stderr.flush()
