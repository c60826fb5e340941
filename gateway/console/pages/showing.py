"""What every page needs beside its own values: the number that waits, and the word about what was just done.

Refuses to show any text that an address brings along: a word after a redirect is named by a key, the text stands here.
"""

import asyncio
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import HTMLResponse

from gateway.console.context import Services, Viewer
from gateway.console.pages.asked import waiting_count
from gateway.console.render import render
from gateway.errors import ConfigErrors
from gateway.policy.clauses import load_clauses


@dataclass(frozen=True, slots=True)
class Flash:
    """A word on top of a page."""

    kind: str
    """``good``, ``warn``, ``bad`` or ``note``."""
    text: str


DONE: dict[str, Flash] = {
    "approved": Flash("good", "Your approval is recorded. Nothing more is needed: the message is on its way."),
    "approved-more": Flash("good", "Your approval is recorded. Another person has to approve before it is delivered."),
    "rejected": Flash("good", "Rejected. The message goes back to its sender with your reason."),
    "partly": Flash("good", "Recorded. The chosen recipients are decided; the others stay as they were."),
    "allowed": Flash("good", "Recorded. The exception begins when the message is released."),
    "again": Flash("note", "You had said so before; nothing was changed."),
    "commented": Flash("good", "Your comment is recorded."),
    "withdrawn": Flash("good", "You took the message back. Nobody gets it."),
    "attested": Flash("good", "Thank you. The approvers have been asked."),
    "exception-added": Flash("good", "The exception is recorded and counts from now on."),
    "exception-revoked": Flash("good", "The exception is revoked and counts no more."),
}


async def show(
    request: Request,
    viewer: Viewer,
    services: Services,
    template: str,
    *,
    status: int = 200,
    flash: Flash | None = None,
    **values: object,
) -> HTMLResponse:
    """A page with the menu. Raises StoreError."""
    word = flash or DONE.get(request.query_params.get("done", ""))
    count = await waiting_count(services, viewer)
    return render(request, template, status, flash=word, waiting_count=count, **values)


async def field(request: Request, name: str) -> str:
    """One text of the form that was sent, ``""`` when it is not there."""
    value = (await request.form()).get(name, "")
    return "" if isinstance(value, UploadFile) else value.strip()


async def fields(request: Request, name: str) -> tuple[str, ...]:
    """All texts of one name."""
    values = (await request.form()).getlist(name)
    return tuple(value for value in values if isinstance(value, str))


async def clauses(services: Services) -> dict[str, str]:
    """Texts of the clauses; none when the file cannot be read: ids alone then."""
    path = services.settings.policy.clauses

    def read() -> dict[str, str]:
        try:
            return _clauses(str(path), path.stat().st_mtime_ns)
        except (OSError, ConfigErrors):
            return {}

    return await asyncio.to_thread(read)


@lru_cache(maxsize=4)
def _clauses(path: str, _changed: int) -> dict[str, str]:
    return dict(load_clauses(Path(path)))
