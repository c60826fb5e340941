"""My held messages: what became of mail that I sent; taking it back, confirming what a rule asks.

Refuses to show anybody's but one's own.
"""

from starlette.requests import Request
from starlette.responses import Response

from gateway.console.context import Page, Services, Viewer
from gateway.console.pages.asked import own
from gateway.console.pages.rows import rows
from gateway.console.pages.showing import show
from gateway.hold.states import OPEN

MOST = 200


async def index(request: Request, viewer: Viewer, services: Services) -> Response:
    """The page."""
    items = await own(services, viewer, MOST)
    return await show(
        request,
        viewer,
        services,
        "mine.html",
        open=rows(services, viewer, [item for item in items if item.state in OPEN]),
        past=rows(services, viewer, [item for item in items if item.state not in OPEN]),
    )


ROUTES = (Page("GET", "/mine", index),)
