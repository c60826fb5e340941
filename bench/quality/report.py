"""The tables of one run, and what is asked for, as Markdown. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from bench.quality.score import LEVELS, Counts, Score, interval
from gateway.model.finding import Confidence

CHECKED = ("us-ssn", "us-itin", "payment-card", "iban", "routing-number", "bank-account")
"""Types with check digits or with numbers that are never issued; an account stands beside its bank's number."""
WORDS = (
    "business-finances", "commercial-solicitation", "competitive-bid", "confidential-marking", "criminal-justice",
    "elected-correspondence", "financial-regulation", "gambling", "harassment", "health-record", "legal-advice",
    "litigation", "network-configuration", "personnel-file", "political-campaigning", "profanity",
    "property-acquisition", "sexual-content", "slurs", "student-record", "threats", "trade-secret",
)  # fmt: skip
"""Types that are known by words."""
NEARBY = (
    "access-token",
    "date-of-birth",
    "home-address",
    "ip-address",
    "ip-address-own",
    "medical-record-number",
    "one-time-code",
    "password",
    "personnel-phone",
    "private-key",
    "us-driver-licence",
    "us-medicaid",
    "us-medicare",
    "us-passport",
)
"""Types that are known by their form and the words beside it."""
DISGUISED = ("us-ssn", "payment-card")
ADDRESSES = ("ip-address", "ip-address-own")
HELPERS = frozenset({"person-name"})
"""Types that only help others: shown, not asked anything of."""


@dataclass(slots=True)
class Results:
    """What one run measured: by set, by finder."""

    tune: bool
    scores: dict[str, dict[str, Score]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Bar:
    """One thing that is asked for."""

    name: str
    value: float
    wanted: float
    at_most: bool = False
    note: str = ""

    @property
    def reached(self) -> bool:
        """Whether it is."""
        return self.value <= self.wanted if self.at_most else self.value >= self.wanted


def render(results: Results) -> str:
    """Everything, ready to print."""
    which = "the two thirds for tuning: no measure of quality" if results.tune else "the held-out third"
    blocks = [f"Measured on {which}. P precision, R recall, at least at this confidence."]
    blocks += [_types_table(name, results.scores[name]) for name in ("city", "synthetic") if name in results.scores]
    if "evasions" in results.scores:
        blocks.append(_evasions_table(results.scores["evasions"]))
    if "ham" in results.scores:
        blocks.append(_ham_table(results.scores["ham"]["civicgate"]))
    blocks.append(_bars_table(bars(results)))
    blocks.extend(f"Not measured: {problem}" for problem in results.problems)
    return "\n\n".join(blocks)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def _cell(counts: Counts) -> str:
    return f"{counts.precision:.2f} {counts.recall:.2f} **{counts.f1:.2f}**"


def _types_table(name: str, scores: Mapping[str, Score]) -> str:
    ours, other = scores["civicgate"], scores.get("presidio")
    types = sorted({type_ for type_, _ in ours.counts} | ({type_ for type_, _ in other.counts} if other else set()))
    head = ["type", "values", *(f"{level.name.lower()} P R F1" for level in LEVELS)]
    head += ["presidio, best P R F1"] if other else []
    rows = []
    for type_ in types:
        low = ours.of(type_, Confidence.LOW)
        row = [type_, str(low.right + low.missed), *(_cell(ours.of(type_, level)) for level in LEVELS)]
        if other:
            known = any(known == type_ for known, _ in other.counts)
            row.append(_cell(best(other, type_)) if known else "—")
        rows.append(row)
    return f"**{name}**, {ours.texts} texts\n\n" + _table(head, rows)


def best(score: Score, type_: str) -> Counts:
    """The counts at the confidence that does the type most good."""
    return max((score.of(type_, level) for level in LEVELS), key=lambda counts: counts.f1)


def recall(score: Score, type_: str, way: str) -> Counts:
    """All techniques of one way of sending (``bare`` or ``told``) together."""
    whole = Counts()
    for (group, of), counts in score.by_group.items():
        if of == type_ and group.startswith(f"{way}/"):
            whole.add(counts)
    return whole


def _evasions_table(scores: Mapping[str, Score]) -> str:
    ours = scores["civicgate"]
    ways = [(type_, way) for type_ in sorted({of for _, of in ours.by_group}) for way in ("told", "bare")]
    rows = []
    for type_, way in ways:
        mine = recall(ours, type_, way)
        shown = [f"{recall(score, type_, way).recall:.3f}" for score in scores.values()]
        rows.append([f"{type_}, {way}", str(mine.right + mine.missed), *shown])
    first = "**evasions**, recall at any confidence\n\n" + _table(["type, sent", "values", *scores], rows)
    return f"{first}\n\nBy technique, found by {' / '.join(scores)}:\n\n{_techniques_table(scores)}"


def _techniques_table(scores: Mapping[str, Score]) -> str:
    techniques = sorted({group.partition("/")[2] for group, _ in scores["civicgate"].by_group})
    ways = [(type_, way) for type_ in DISGUISED for way in ("told", "bare")]

    def cell(technique: str, type_: str, way: str) -> str:
        found = [score.by_group.get((f"{way}/{technique}", type_), Counts()) for score in scores.values()]
        values = max(counts.right + counts.missed for counts in found)
        return f"{' / '.join(str(counts.right) for counts in found)} of {values}" if values else "—"

    rows = [[technique, *(cell(technique, *way) for way in ways)] for technique in techniques]
    return _table(["technique", *(f"{type_}, {way}" for type_, way in ways)], rows)


def ham_wrong(score: Score, level: Confidence) -> tuple[int, dict[str, int]]:
    """False positives in real mail: all, and by type."""
    by_type = {type_: counts.wrong for (type_, at), counts in score.counts.items() if at is level and counts.wrong}
    return sum(n for type_, n in by_type.items() if type_ not in HELPERS), by_type


def _ham_table(score: Score) -> str:
    rows = []
    for level in LEVELS:
        wrong, by_type = ham_wrong(score, level)
        low, high = interval(min(wrong, score.texts), score.texts)
        most = ", ".join(f"{t} {n}" for t, n in sorted(by_type.items(), key=lambda item: -item[1])[:6])
        rows.append([
            level.name.lower(), str(wrong), f"{1000 * wrong / score.texts:.2f}",
            f"{1000 * low:.2f}–{1000 * high:.2f}", most,
        ])  # fmt: skip
    head = ["confidence", "wrong", "of 1,000 messages", "95 % interval", "most"]
    return f"**ham**, {score.texts} messages, without what only helps (person-name)\n\n" + _table(head, rows)


def pooled(results: Results, finder: str, type_: str, level: Confidence) -> Counts:
    """One type on the city's and the synthetic texts together."""
    whole = Counts()
    for name in ("city", "synthetic"):
        score = results.scores.get(name, {}).get(finder)
        if score is not None:
            whole.add(score.of(type_, level))
    return whole


def bars(results: Results) -> list[Bar]:
    """Everything that is asked for and was measured. Types are judged at ``medium``, what rules take by default."""
    found = []
    for types, wanted in ((CHECKED, 0.95), (WORDS + NEARBY, 0.85)):
        for type_ in types:
            counts = pooled(results, "civicgate", type_, Confidence.MEDIUM)
            if counts.right + counts.missed:
                note = f"{counts.right} right, {counts.wrong} wrong, {counts.missed} missed"
                found.append(Bar(f"F1 of {type_}", counts.f1, wanted, note=note))
    if "evasions" in results.scores:
        score = results.scores["evasions"]["civicgate"]
        ways = [(type_, way) for type_ in DISGUISED for way in ("told", "bare")]
        found += [Bar(f"evasion recall of {t}, {way}", recall(score, t, way).recall, 0.9) for t, way in ways]
    if "ham" in results.scores:
        score = results.scores["ham"]["civicgate"]
        wrong, _ = ham_wrong(score, Confidence.HIGH)
        rate = wrong / score.texts
        found.append(Bar("false positives a message of ham at high", rate, 1 / 2000, at_most=True, note=f"{wrong}"))
    return found + _ahead(results)


def _ahead(results: Results) -> list[Bar]:
    """Our best F1 against presidio's best, for what both know. It does not tell networks apart: both types are one."""
    theirs = [scores["presidio"] for scores in results.scores.values() if "presidio" in scores]
    shared = {type_ for score in theirs for type_, _ in score.counts} - set(ADDRESSES)
    groups: list[tuple[str, ...]] = [(type_,) for type_ in sorted(shared)]
    if any((type_, level) in score.counts for score in theirs for type_ in ADDRESSES for level in LEVELS):
        groups.append(ADDRESSES)
    rows = []
    for types in groups:
        mine, other = (_best_of(results, finder, types) for finder in ("civicgate", "presidio"))
        rows.append(Bar(f"{' and '.join(types)}: best F1 here against presidio's", mine, other))
    return rows


def _best_of(results: Results, finder: str, types: Sequence[str]) -> float:
    """The F1 of some types as one, at the confidence that does it most good."""
    found = []
    for level in LEVELS:
        whole = Counts()
        for type_ in types:
            whole.add(pooled(results, finder, type_, level))
        found.append(whole.f1)
    return max(found)


def _bars_table(rows: Sequence[Bar]) -> str:
    cells = []
    for bar in rows:
        places = 4 if bar.at_most else 3
        asked = f"{'≤' if bar.at_most else '≥'} {bar.wanted:.{places}f}"
        cells.append([bar.name, f"{bar.value:.{places}f}", asked, "yes" if bar.reached else "**no**", bar.note])
    return "**what is asked for**\n\n" + _table(["", "measured", "asked", "reached", ""], cells)
