"""A large result given in pages: the first in its place, the others by the tool `next_page`."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, Final

import msgspec

from mcpace_sidecar.cache.entry import Place
from mcpace_sidecar.cache.policy import digest
from mcpace_sidecar.call.answer import Answer
from mcpace_sidecar.call.book import KEPT, MAX_PAGE, first_page, later_page
from mcpace_sidecar.call.call import Call
from mcpace_sidecar.call.paging import paginate
from mcpace_sidecar.call.plane import Plane
from mcpace_sidecar.call.policies import NEXT_PAGE, PageRule
from mcpace_sidecar.mcp.jsonrpc import NextPageParams
from mcpace_sidecar.mcp.request import Message

NEXT_PAGE_TOOL: Final[dict[str, Any]] = {
    "name": NEXT_PAGE,
    "title": "Next page",
    "description": "Read another page of a large result. Results that were cut say so and hold the handle.",
    "inputSchema": {
        "type": "object",
        "properties": {
            "handle": {"type": "string", "description": "The handle that the first page gave."},
            "page": {"type": "integer", "minimum": 1, "description": "The page to read, from 1."},
            "page_size": {
                "type": "integer",
                "minimum": 1,
                "maximum": MAX_PAGE,
                "description": "Items of a page; as on the first page, if unset.",
            },
        },
        "required": ["handle", "page"],
    },
    "annotations": {"readOnlyHint": True, "openWorldHint": False},
}


def paged(call: Call, plane: Plane, rule: PageRule, result: bytes) -> bytes | None:
    """The first page of a result that is too large; None: it is not, and stays as it is."""
    cut = paginate(result, rule)
    if cut is None:
        return None
    book, more = cut
    if len(book) > plane.settings.cache_bytes // 2:
        return None  # it could not be held: better whole than lost
    handle = secrets.token_hex(16)
    plane.results.keep(_shelf(call, handle), (), book, KEPT, 0.0)
    return first_page(book, more, handle, plane.next_page_name)


def _shelf(call: Call, handle: str) -> Place:
    """Where the pages of a handle are: with another client, credential or stream, nowhere."""
    return Place(digest((b"page", handle.encode(), call.opened or call.variant, call.who)), ())


_next_page: Final = msgspec.json.Decoder(NextPageParams)


def read(answer: Answer, message: Message, done: Callable[[bytes | None, str], None]) -> None:
    """Find the page that a call of the `next_page` tool asks for.

    `done` takes its result, or None and what is wrong.
    """
    call, plane = answer.call, answer.plane
    try:
        wanted = _next_page.decode(message.params).arguments
    except msgspec.DecodeError as error:
        done(None, f"The arguments are handle, a string, page, a number, and page_size, a number: {error}.")
        return
    if wanted.page_size is not None and wanted.page_size < 1:
        done(None, f"page_size is 1 to {MAX_PAGE}.")
        return
    place = _shelf(call, wanted.handle)
    wait = plane.page_rate.wait(place.key)
    if wait:
        done(None, f"These pages are read too fast: retry in {wait:.1f} s.")
        return

    def looked(found: Any) -> None:
        try:
            take(found)
        except Exception as error:  # noqa: BLE001 - because whatever it is, the call ends
            answer.broke("pages", error)

    def take(found: Any) -> None:
        stored = getattr(found, "result", None)
        if stored is None:
            plane.results.release((place,))  # nobody will fetch it
            done(None, "The handle is unknown or has expired: call the tool again for a new first page.")
            return
        try:
            result = later_page(stored, wanted.page, wanted.page_size, wanted.handle, plane.next_page_name)
        except ValueError as error:
            done(None, str(error))
        else:
            done(result, "")

    near = plane.results.near(place.key)
    if near is not None:
        take(near)
    else:
        plane.results.far((place,), KEPT, looked)
