"""What this machine's processes have counted since the gateway started, read from the metrics' folder.

Refuses to fail: a folder that is not there, or cannot be read, tells nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers of the metrics that pages show."""

    known: bool = False
    """False: nothing could be read."""
    rules: Mapping[str, int] = field(default_factory=dict)
    """Messages that a rule matched, in whatever mode."""
    messages: Mapping[str, int] = field(default_factory=dict)
    """Messages by disposition."""
    reloads: Mapping[str, int] = field(default_factory=dict)
    """Reloads by outcome."""
    reloaded: float = 0.0
    """When settings and rules were last read without error, seconds since 1970; 0.0: not known."""


def read(folder: Path) -> Counts:
    """The counts. Reads files: call it in a thread."""
    registry = CollectorRegistry()
    try:
        found = {metric.name: metric for metric in MultiProcessCollector(registry, str(folder)).collect()}  # type: ignore[no-untyped-call]
    except (OSError, ValueError, KeyError):
        return Counts()
    times = [sample.value for sample in _samples(found, "civicgate_reload_success_timestamp_seconds")]
    return Counts(
        known=bool(found),
        rules=_sums(found, "civicgate_rule_matches", "rule"),
        messages=_sums(found, "civicgate_messages", "disposition"),
        reloads=_sums(found, "civicgate_reloads", "outcome"),
        reloaded=max(times, default=0.0),
    )


def _samples(found: Mapping[str, Metric], name: str) -> list[Any]:
    return found[name].samples if name in found else []


def _sums(found: Mapping[str, Metric], name: str, label: str) -> dict[str, int]:
    sums: dict[str, int] = {}
    for sample in _samples(found, name):
        if not sample.name.endswith("_created"):
            sums[sample.labels[label]] = sums.get(sample.labels[label], 0) + int(sample.value)
    return sums
