"""Every metric of the gateway, in one place. ``docs/metrics.md`` describes each; a test keeps it so.

Values are right across worker processes through prometheus-client's multiprocess mode: whoever starts the gateway sets
``PROMETHEUS_MULTIPROC_DIR`` before this module is first imported. Label values come from closed sets or from rule ids,
never from mail.
"""

import os
from bisect import bisect_left

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values
from prometheus_client.multiprocess import mark_process_dead

MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"


class _Process:
    """The process id without a system call for every value that is counted; a fork refreshes it."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        self._pid = os.getpid()

    def __call__(self) -> int:
        return self._pid


if MULTIPROCESS in os.environ:
    values.ValueClass = values.MultiProcessValue(_Process())  # type: ignore[no-untyped-call]
REGISTRY = CollectorRegistry()

_SIZES = (1e3, 1e4, 1e5, 1e6, 5e6, 1e7, 2.5e7, 5e7, 1e8)
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

MESSAGES = Counter(
    "civicgate_messages", "Messages answered, by direction and disposition.",
    ("direction", "disposition"), registry=REGISTRY,
)  # fmt: skip
RECIPIENTS = Counter(
    "civicgate_recipients", "Recipients decided, by direction and disposition.",
    ("direction", "disposition"), registry=REGISTRY,
)  # fmt: skip
RULE_MATCHES = Counter(
    "civicgate_rule_matches", "Rules that matched, by rule and mode.", ("rule", "mode"), registry=REGISTRY
)
MESSAGE_BYTES = Histogram(
    "civicgate_message_bytes", "Size of messages as received, in octets.", buckets=_SIZES, registry=REGISTRY
)
STAGE_SECONDS = Histogram(
    "civicgate_stage_seconds", "Seconds spent in each stage of a transaction.",
    ("stage",), buckets=_SECONDS, registry=REGISTRY,
)  # fmt: skip
CONTROL_FAILURES = Counter(
    "civicgate_control_failures", "Controls that could not answer, by control and reason.",
    ("control", "reason"), registry=REGISTRY,
)  # fmt: skip
TRANSFORM_FAILURES = Counter(
    "civicgate_transform_failures", "Transforms that could not be made, by code.", ("code",), registry=REGISTRY
)
CLAMD_UP = Gauge(
    "civicgate_clamd_up", "1 when clamd answered its last ping, 0 when not.",
    registry=REGISTRY, multiprocess_mode="mostrecent",
)  # fmt: skip
NEXT_HOP_UP = Gauge(
    "civicgate_next_hop_up", "1 when the next hop was reached last time, 0 when not.",
    registry=REGISTRY, multiprocess_mode="mostrecent",
)  # fmt: skip
NEXT_HOP_REPLIES = Counter(
    "civicgate_next_hop_replies", "Replies of the next hop, by command and class of reply code (2, 4, 5, fault).",
    ("command", "class"), registry=REGISTRY,
)  # fmt: skip
HELD = Gauge(
    "civicgate_held_messages", "Items waiting for a decision, by queue.", ("queue",),
    registry=REGISTRY, multiprocess_mode="mostrecent",
)  # fmt: skip
HELD_OLDEST = Gauge(
    "civicgate_held_oldest_seconds", "Age of the oldest item waiting for a decision, by queue.", ("queue",),
    registry=REGISTRY, multiprocess_mode="mostrecent",
)  # fmt: skip
HELD_UNDECIDABLE = Gauge(
    "civicgate_held_undecidable", "Items waiting for a decision that nobody whom the directory names can make.",
    registry=REGISTRY, multiprocess_mode="mostrecent",
)  # fmt: skip
HOLD_ALARMS = Counter(
    "civicgate_hold_alarms", "Items held for a role that nobody holds, by who is asked: fallback, nobody.", ("kind",),
    registry=REGISTRY,
)  # fmt: skip
OUTBOX_DEPTH = Gauge(
    "civicgate_outbox_messages", "Messages waiting in the outbox.", registry=REGISTRY, multiprocess_mode="mostrecent"
)
OUTBOX_OLDEST = Gauge(
    "civicgate_outbox_oldest_seconds", "Age of the oldest message in the outbox.",
    registry=REGISTRY, multiprocess_mode="mostrecent",
)  # fmt: skip
OUTBOX_UNRECORDED = Counter(
    "civicgate_outbox_unrecorded",
    "Deliveries that the next hop took and that could not be written down, by why: stop, claim.", ("why",),
    registry=REGISTRY,
)  # fmt: skip
CONNECTIONS = Gauge(
    "civicgate_connections", "Client connections open now, by listener.", ("listener",),
    registry=REGISTRY, multiprocess_mode="livesum",
)  # fmt: skip
CONNECTIONS_REFUSED = Counter(
    "civicgate_connections_refused", "Connections refused or cut off, by reason.", ("reason",), registry=REGISTRY
)
SMTP_ERRORS = Counter(
    "civicgate_smtp_errors", "Commands and content refused for breaking SMTP, by reason.", ("reason",),
    registry=REGISTRY,
)  # fmt: skip
RELOADS = Counter("civicgate_reloads", "Reloads of settings and rules, by outcome.", ("outcome",), registry=REGISTRY)
RELOAD_TIME = Gauge(
    "civicgate_reload_success_timestamp_seconds", "When settings and rules were last read without error.",
    registry=REGISTRY, multiprocess_mode="mostrecent",
)  # fmt: skip
CONSOLE_REQUESTS = Counter(
    "civicgate_console_requests", "Requests to the console, by page (its path in the table of pages) and status.",
    ("page", "status"), registry=REGISTRY,
)  # fmt: skip
CONSOLE_SECONDS = Histogram(
    "civicgate_console_seconds", "Seconds until the console had an answer.", buckets=_SECONDS, registry=REGISTRY
)
LOGINS = Counter(
    "civicgate_logins", "Logins to the console, by way and outcome.", ("method", "outcome"), registry=REGISTRY
)
BUILD_INFO = Gauge(
    "civicgate_build_info", "Always 1; the labels say what runs.", ("version",),
    registry=REGISTRY, multiprocess_mode="mostrecent",
)  # fmt: skip


class Tally:
    """Counts in plain integers and adds them to a counter now and then: a shared value costs more than the sum.

    ``flush`` must be called now and then, and at the end; what a kill takes with it is at most one interval.
    """

    __slots__ = ("_counter", "_pending", "_series")

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._pending: dict[tuple[str, ...], int] = {}
        self._series: dict[tuple[str, ...], Counter] = {}

    def add(self, *labels: str) -> None:
        """Count one."""
        self._pending[labels] = self._pending.get(labels, 0) + 1

    def flush(self) -> None:
        """Make everything counted visible."""
        pending, self._pending = self._pending, {}
        for labels, count in pending.items():
            series = self._series.get(labels)
            if series is None:
                series = self._series[labels] = self._counter.labels(*labels)
            series.inc(count)


class Distribution:
    """Observations of one histogram, gathered by bucket and added now and then, as :class:`Tally` does for counters."""

    __slots__ = ("_bounds", "_counts", "_histogram", "_sum")

    def __init__(self, histogram: Histogram) -> None:
        """``histogram`` must have its labels. It is flushed with all others (:func:`flush_distributions`)."""
        self._histogram = histogram
        self._bounds: tuple[float, ...] = tuple(histogram._upper_bounds)  # noqa: SLF001 - nothing public tells them
        self._counts = [0] * len(self._bounds)
        self._sum = 0.0
        _distributions.append(self)

    def observe(self, amount: float) -> None:
        """Count one."""
        self._counts[bisect_left(self._bounds, amount)] += 1
        self._sum += amount

    def flush(self) -> None:
        """Make everything observed visible."""
        counts, self._counts = self._counts, [0] * len(self._bounds)
        amount, self._sum = self._sum, 0.0
        if not any(counts):
            return
        self._histogram._sum.inc(amount)  # noqa: SLF001 - observe() takes but one at a time
        for bucket, count in zip(self._histogram._buckets, counts, strict=True):  # noqa: SLF001 - the same
            if count:
                bucket.inc(count)


_distributions: list[Distribution] = []


def flush_distributions() -> None:
    """Make what every :class:`Distribution` of this process has gathered visible."""
    for distribution in _distributions:
        distribution.flush()


def metric_names() -> list[str]:
    """Names as Prometheus sees them, sorted."""
    return sorted(f.name + ("_total" if f.type == "counter" else "") for f in REGISTRY.collect())


def forget_process(pid: int) -> None:
    """A worker ended: its live gauges no longer count."""
    if MULTIPROCESS in os.environ:
        mark_process_dead(pid)  # type: ignore[no-untyped-call]
