"""The policy: rules as data, and one pure function from facts to a verdict. Refuses I/O beyond reading its files."""

from gateway.policy.cases import CaseResult, run_cases
from gateway.policy.engine import asked, decide, decide_early
from gateway.policy.explain import Explanation, Outcome, explain
from gateway.policy.loader import DEFAULT_VARIABLES, load_rules
from gateway.policy.ruleset import RuleSet
from gateway.policy.schema import schema
from gateway.policy.types import InformationType, load_types

__all__ = [
    "DEFAULT_VARIABLES",
    "CaseResult",
    "Explanation",
    "InformationType",
    "Outcome",
    "RuleSet",
    "asked",
    "decide",
    "decide_early",
    "explain",
    "load_rules",
    "load_types",
    "run_cases",
    "schema",
]
