"""The rules, to read: what is in force, why, and how often it matched. Refuses to change any: that is done in files."""

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from gateway.console.context import Page, Refused, Services, Viewer
from gateway.console.pages import counts
from gateway.console.pages.asked import oversees
from gateway.console.pages.showing import clauses, show
from gateway.console.pages.words import Shown
from gateway.model.verdict import Disposition, Mode
from gateway.policy.compiled import Rule

MODES = {
    Mode.ENFORCE: Shown("In force", "good", "It acts."),
    Mode.MONITOR: Shown("Counts only", "note", "It is evaluated and counted, and does nothing."),
    Mode.OFF: Shown("Off", "", "It is not evaluated."),
}
_ACTS = {
    Disposition.PASS: "",
    Disposition.DISCARD: "drops the message",
    Disposition.HOLD: "holds for approval",
    Disposition.DEFER: "asks the sender’s server to try later",
    Disposition.REJECT: "refuses the message",
}
_PARTS = re.compile(r"\A(\s*(?:- )*)([A-Za-z_][\w-]*:(?=\s|\Z))?(.*?)(\s#.*|\A#.*)?\Z")
MOST_SOURCE = 200_000


@dataclass(frozen=True, slots=True)
class Row:
    """One rule in the list."""

    id: str
    title: str
    mode: Shown
    does: str
    source: tuple[str, ...]
    category: str
    cases: int
    matched: int | None


def does(rule: Rule) -> str:
    """What a rule does, in words."""
    parts = [_ACTS[rule.disposition]] if _ACTS[rule.disposition] else []
    parts += [f"adds: {t.kind.replace('-', ' ')}" if t.kind != "encrypt" else "encrypts" for t in rule.transforms]
    parts += ["tells people"] if rule.notices else []
    return ", ".join(dict.fromkeys(parts)) or "counts"


async def index(request: Request, viewer: Viewer, services: Services) -> Response:
    """All rules."""
    counted = await asyncio.to_thread(counts.read, services.settings.metrics.directory)
    folder = services.settings.policy.rules
    rows = [
        Row(
            rule.id,
            rule.title,
            MODES[rule.mode],
            does(rule),
            rule.source,
            _category(rule.file, folder),
            len(rule.spec.cases),
            counted.rules.get(rule.id, 0) if counted.known else None,
        )
        for rule in services.rules.rules
    ]
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.category, []).append(row)
    tally = {mode.name: sum(1 for row in rows if row.mode is mode) for mode in MODES.values()}
    digest = services.rules.digest
    return await show(
        request, viewer, services, "rules.html", groups=groups, tally=tally, digest=digest, count=len(rows)
    )  # fmt: skip


async def one(request: Request, viewer: Viewer, services: Services) -> Response:
    """One rule with its source."""
    rule = services.rules.get(request.path_params["rule"])
    if rule is None:
        raise Refused(404, "No such rule", "There is no rule of this id. The list of rules shows what there is.")
    counted = await asyncio.to_thread(counts.read, services.settings.metrics.directory)
    texts = await clauses(services)
    source = await asyncio.to_thread(_source, Path(rule.file)) if oversees(viewer) else []
    return await show(
        request,
        viewer,
        services,
        "rule.html",
        rule=rule,
        mode=MODES[rule.mode],
        does=does(rule),
        clauses=[(clause, texts.get(clause, "")) for clause in rule.source],
        matched=counted.rules.get(rule.id, 0) if counted.known else None,
        roles=rule.hold.roles if rule.hold else (),
        kinds=sorted({node.kind for node in rule.exceptions}),
        source=source,
        sealed=not oversees(viewer),
        note=(getattr(rule.spec, "note", "") or "").strip(),
    )


def _category(file: str, folder: Path) -> str:
    try:
        parts = Path(file).relative_to(folder).parts
    except ValueError:
        return "other"
    return parts[0] if len(parts) > 1 else "other"


def _source(path: Path) -> list[tuple[str, str, str, str]]:
    """The file's lines as (indent, key, rest, comment)."""
    try:
        text = path.read_text("utf-8")[:MOST_SOURCE]
    except (OSError, UnicodeDecodeError):
        return []
    found = (_PARTS.match(line) for line in text.splitlines())
    return [(m[1] or "", m[2] or "", m[3] or "", m[4] or "") if m else ("", "", "", "") for m in found]


ROUTES = (Page("GET", "/rules", index), Page("GET", "/rules/{rule}", one))
