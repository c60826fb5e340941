"""The table of all pages: method, path, handler, who may call it. Refuses two pages on one method and path."""

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from gateway.console import account, api, login, oidc, own_tokens
from gateway.console.context import Page, Refused, Services, Viewer, Who
from gateway.console.pages.table import PAGES
from gateway.console.render import assets


async def static(request: Request, viewer: Viewer, services: Services) -> Response:
    """One of the files of ``static/``."""
    found = assets().get(request.path_params["name"])
    if found is None:
        raise Refused(404, "Not found", "There is no such file.")
    headers = {"cache-control": "public, max-age=604800, immutable", "etag": f'"{found.tag}"'}
    if request.query_params.get("v") != found.tag:
        headers["cache-control"] = "public, max-age=300"
    if request.headers.get("if-none-match") == headers["etag"]:
        return Response(status_code=304, headers=headers)
    return Response(found.content, media_type=found.media_type, headers=headers)


async def health(request: Request, viewer: Viewer, services: Services) -> Response:
    """For load balancers: 200 while the database answers."""
    await services.accounts.ping()
    return PlainTextResponse("ok\n")


ROUTES: tuple[Page, ...] = (
    Page("GET", "/health", health, Who.ANYONE, bare=True),
    Page("GET", "/static/{name}", static, Who.ANYONE, bare=True),
    *login.ROUTES,
    *oidc.ROUTES,
    *account.ROUTES,
    *own_tokens.ROUTES,
    *PAGES,
    *api.ROUTES,
)
"""Pages of other modules are added here: ``*items.ROUTES``."""
