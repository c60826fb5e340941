"""What a decision costs: far under the budget, and not in step with the recipients."""

import time
from pathlib import Path
from typing import Any

from gateway.model.finding import Check, Finding
from gateway.policy import decide, load_rules

RULES = Path(__file__).parents[3] / "rules"


def _best(times: int, ask: Any) -> float:
    """Processor seconds of the quickest of some runs: what others do on the machine does not count."""
    spans = []
    for _ in range(times):
        started = time.process_time()
        ask()
        spans.append(time.process_time() - started)
    return min(spans)


def test_shipped_rules_decide_an_ordinary_message_far_under_a_millisecond(world: Any) -> None:
    """One recipient, all shipped rules: 30 µs measured; the bound leaves room for a slow machine under coverage."""
    rules = load_rules(RULES)
    envelope, findings = (
        world.envelope(world.to("a@b.example")),
        world.findings(Finding(Check.SIGNATURE_BLOCK, "missing")),
    )
    hundred = _best(5, lambda: [decide(envelope, findings, rules, world.now) for _ in range(100)])
    assert hundred / 100 < 500e-6


def test_ten_thousand_recipients_cost_no_ten_thousand_decisions(world: Any) -> None:
    """Recipients that the rules cannot tell apart are decided once: 2 ms measured."""
    rules = load_rules(RULES)
    people = [world.to(f"p{n}@x{n % 9}.example", "outbound" if n % 2 else "internal") for n in range(10_000)]
    envelope, findings = world.envelope(*people), world.findings(Finding(Check.CONTENT, "us-ssn"))
    assert _best(3, lambda: decide(envelope, findings, rules, world.now)) < 0.03
