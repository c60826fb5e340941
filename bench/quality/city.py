"""City mail, written for this and labelled by hand: ``city/*.yaml``.

A group of texts a type: ``has`` hold it, ``misses`` only look as if. ``[[…]]`` marks a value of the group's type,
``[[other|…]]`` one of another type; a text of ``has`` without marks is what the type means as a whole. Refuses a group
that is named for no type, and a mark that is not closed.
"""

import re
from collections.abc import Collection
from pathlib import Path

from ruamel.yaml import YAML

from bench.quality.samples import Label, Sample

FOLDER = Path(__file__).parent / "city"
ONLY_OWN = frozenset({"person-name"})
"""Types that nearly every letter holds: judged in the texts of their own group only."""
OVERLAPPING: dict[str, frozenset[str]] = {
    "legal-advice": frozenset({"litigation", "confidential-marking"}),
    "litigation": frozenset({"legal-advice", "confidential-marking"}),
    "harassment": frozenset({"threats", "sexual-content", "profanity"}),
    "threats": frozenset({"harassment"}),
    "sexual-content": frozenset({"harassment", "profanity"}),
    "slurs": frozenset({"harassment"}),
    "profanity": frozenset({"harassment"}),
    "personnel-file": frozenset({"health-record", "confidential-marking", "harassment"}),
    "health-record": frozenset({"date-of-birth", "medical-record-number", "personnel-file"}),
    "confidential-marking": frozenset({"personnel-file"}),
    "competitive-bid": frozenset({"trade-secret"}),
    "trade-secret": frozenset({"confidential-marking", "competitive-bid"}),
    "business-finances": frozenset({"trade-secret"}),
    "property-acquisition": frozenset({"confidential-marking"}),
    "elected-correspondence": frozenset({"health-record"}),
    "one-time-code": frozenset({"password"}),
    "password": frozenset({"one-time-code"}),
    "network-configuration": frozenset({"ip-address-own", "password", "private-key"}),
    "routing-number": frozenset({"bank-account"}),
    "medical-record-number": frozenset({"us-medicaid"}),
}
"""In a text that holds the first, these may be right as well: not judged there."""
_MARK = re.compile(r"\[\[(?:([a-z-]+)\|)?(.+?)\]\]", re.DOTALL)


def load(types: Collection[str], folder: Path = FOLDER) -> list[Sample]:
    """All texts, by file and place. Raises :class:`ValueError` for what is written wrong."""
    samples: list[Sample] = []
    for path in sorted(folder.glob("*.yaml")):
        groups = YAML(typ="safe").load(path.read_text("utf-8"))
        for type_, rows in groups.items():
            if type_ not in types:
                message = f"{path}: «{type_}» is no information type"
                raise ValueError(message)
            for kind in ("has", "misses"):
                samples.extend(_sample(type_, kind, row, types) for row in rows[kind])
    return samples


def _sample(type_: str, kind: str, written: str, types: Collection[str]) -> Sample:
    text, labels = _read(type_, written)
    if any(label.type_ not in types for label in labels) or "[[" in text or "]]" in text:
        message = f"a mark that is wrong: {written}"
        raise ValueError(message)
    if kind == "has" and not any(label.type_ == type_ for label in labels):
        labels.append(Label(type_, 0, len(text)))
    if kind == "misses" and any(label.type_ == type_ for label in labels):
        message = f"a near miss holds what it misses: {written}"
        raise ValueError(message)
    unscored = set(ONLY_OWN) - {type_}
    if kind == "has":
        unscored |= OVERLAPPING.get(type_, frozenset())
    scored = frozenset(types) - unscored | {label.type_ for label in labels}
    return Sample(f"city/{type_}/{kind}/{written}", text, tuple(labels), scored, group=type_)


def _read(type_: str, written: str) -> tuple[str, list[Label]]:
    """The text without its marks, and what they mark."""
    text, at, labels = "", 0, []
    for mark in _MARK.finditer(written):
        text += written[at : mark.start()]
        labels.append(Label(mark[1] or type_, len(text), len(text) + len(mark[2])))
        text += mark[2]
        at = mark.end()
    return text + written[at:], labels
