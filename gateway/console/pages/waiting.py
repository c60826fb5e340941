"""The first page: what waits for me. Refuses nothing; who has nothing to decide reads that, and where to look."""

from starlette.requests import Request
from starlette.responses import Response

from gateway.console.context import Page, Services, Viewer
from gateway.console.pages.asked import own, waiting
from gateway.console.pages.rows import rows
from gateway.console.pages.showing import show
from gateway.hold.states import OPEN

MOST = 50
"""Items on this page; the list of held mail has them all."""


async def index(request: Request, viewer: Viewer, services: Services) -> Response:
    """The page."""
    items, total = await waiting(services, viewer, MOST)
    sent = await own(services, viewer, 50)
    opened = [item for item in sent if item.state in OPEN][:5]
    return await show(
        request,
        viewer,
        services,
        "waiting.html",
        rows=rows(services, viewer, items),
        total=total,
        sent=rows(services, viewer, opened),
    )


ROUTES = (Page("GET", "/", index),)
