"""What a verdict becomes for a message that was released before: the rules that were approved hold it no more.

Refuses to take away anything but holds: other rules refuse, change and hold as ever. Pure.
"""

from collections.abc import Set
from dataclasses import replace

from gateway.model.verdict import STRENGTH, Disposition, Mode, RecipientGroup, RuleMatch, Verdict


def pardoned(verdict: Verdict, rules: Set[str]) -> Verdict:
    """The verdict without the holds of these rules; their matches stay on record, and say so."""
    if not rules or verdict.refusal is not None:
        return verdict
    return replace(verdict, groups=tuple(_group(group, rules) for group in verdict.groups))


def _group(group: RecipientGroup, rules: Set[str]) -> RecipientGroup:
    if group.disposition is not Disposition.HOLD:
        return group
    matches = tuple(_match(match, rules) for match in group.matches)
    holds = tuple(order for order in group.holds if order.rule not in rules)
    if holds:
        return replace(group, holds=holds, matches=matches)
    left = [match.disposition for match in matches if match.mode is Mode.ENFORCE]
    strongest = max(left, key=STRENGTH.__getitem__, default=Disposition.PASS)
    disposition = Disposition.PASS if strongest is Disposition.HOLD else strongest
    return replace(group, disposition=disposition, holds=(), matches=matches)


def _match(match: RuleMatch, rules: Set[str]) -> RuleMatch:
    if match.rule not in rules or match.disposition is not Disposition.HOLD:
        return match
    return replace(match, disposition=Disposition.PASS, why=f"{match.why} (approved and released before)")
