"""What is in a held message, for who may read it: its HTML in a frame that does nothing, and its attachments.

Refuses names and types that a message brings along: every download is ``application/octet-stream`` under a name made
safe, with a policy under which a browser runs nothing of it; a part is found in the message's tree, never in a folder.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse

from gateway.console.context import Page, Refused, Services, Viewer
from gateway.console.pages import opened
from gateway.console.pages.item import look, reading_of
from gateway.errors import OperatorError
from gateway.hold import Damaged
from gateway.hold.access import may_read
from gateway.spool import SpooledMessage

_DOWNLOAD_POLICY = "default-src 'none'; sandbox"


async def frame(request: Request, viewer: Viewer, services: Services) -> Response:
    """The HTML, made harmless, for the frame on the item's page."""
    message = await _message(request, viewer, services, "the formatted text")
    try:
        text = await asyncio.to_thread(opened.frame, message)
    finally:
        message.close()
    headers = {
        "content-security-policy": opened.FRAME_POLICY,
        "x-frame-options": "SAMEORIGIN",
        "cross-origin-resource-policy": "same-origin",
    }
    return HTMLResponse(text, headers=headers)


async def download(request: Request, viewer: Viewer, services: Services) -> Response:
    """One attachment as the sender sent it."""
    message = await _message(request, viewer, services, f"attachment {request.path_params['part']}")
    try:
        part = await asyncio.to_thread(opened.part_at, message, request.path_params["part"])
        if part is None:
            raise Refused(404, "No such attachment", "This message has no attachment there.")
        headers = {
            "content-disposition": opened.disposition(opened.file_name(part)),
            "content-security-policy": _DOWNLOAD_POLICY,
            "x-content-type-options": "nosniff",
        }
        body = opened.octets(message, part)
    except BaseException:
        message.close()
        raise
    return StreamingResponse(_closing(message, body), media_type="application/octet-stream", headers=headers)


async def _message(request: Request, viewer: Viewer, services: Services, what: str) -> SpooledMessage:
    """The message behind the gate. Raises Refused, StoreError."""
    reading = await reading_of(request, viewer, services)
    permission = may_read(viewer.address, reading.item, reading.slots, services.directory)
    if not permission:
        raise Refused(403, "Content is sealed", permission.reason)
    try:
        return await look(viewer, services, reading.item, what)
    except (OperatorError, Damaged) as error:
        raise Refused(410, "The content is not there", error.detail) from error


async def _closing(message: SpooledMessage, body: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Decoded in a thread, piece by piece; the message is closed whatever happens."""
    try:
        while piece := await asyncio.to_thread(next, body, b""):
            yield piece
    finally:
        message.close()


ROUTES = (
    Page("GET", "/items/{item}/html", frame),
    Page("GET", "/items/{item}/parts/{part}", download),
)
