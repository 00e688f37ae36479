"""What becomes of a result on its way to the client: pages, and the sidecar's own tools in the list."""

from __future__ import annotations

import functools
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from mcpace_sidecar.cache.entry import Place
from mcpace_sidecar.cache.policy import digest
from mcpace_sidecar.call import paging
from mcpace_sidecar.call.fanout import PARALLEL_TOOL
from mcpace_sidecar.call.policies import PageRule, Policy
from mcpace_sidecar.http import sse
from mcpace_sidecar.mcp import answers, responses
from mcpace_sidecar.mcp.jsonrpc import NextPageParams
from mcpace_sidecar.mcp.methods import TOOLS_CALL, TOOLS_LIST
from mcpace_sidecar.mcp.request import Message

if TYPE_CHECKING:
    from mcpace_sidecar.call.exchange import Exchange

_List = dict[str, Any]
_decode: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_tools: Final = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])


def of(exchange: Exchange, message: Message, policy: Policy) -> Callable[[bytes], bytes | None] | None:
    """What changes the result of such a call; it returns None where the result stays as it is."""
    if message.method == TOOLS_LIST:
        return functools.partial(listed, exchange)
    if policy.page is not None and message.method == TOOLS_CALL:
        return functools.partial(_paged, exchange, policy.page)
    return None


def listed(exchange: Exchange, result: bytes) -> bytes | None:
    """The list of tools: ours beside the server's; those that are paged promise no schema."""
    plane = exchange.plane
    try:
        fields = _decode.decode(result)
        tools = _tools.decode(fields["tools"])
    except (ValueError, KeyError, RecursionError):
        return None
    paged = plane.settings.policies.paged
    for tool in tools:
        name = msgspec.json.decode(tool.get("name", msgspec.Raw(b"null")))
        if isinstance(name, str) and name in paged:
            tool.pop("outputSchema", None)
    offered: list[Any] = list(tools)
    if "nextCursor" not in fields or bytes(fields["nextCursor"]) in (b"null", b'""'):
        if plane.settings.paging:
            offered.append(paging.NEXT_PAGE_TOOL | {"name": plane.next_page_name})
        if plane.offers_parallel:
            offered.append(PARALLEL_TOOL)
    fields["tools"] = msgspec.Raw(msgspec.json.encode(offered))
    return msgspec.json.encode(fields)


def replaced(body: bytes, result: bytes, *, events: bool) -> bytes:
    """A whole answer with another result in it."""
    if not events:
        return responses.result_body(answers.id_of(body), result)
    pieces = []
    for event in sse.Events().feed(body.rstrip(b"\r\n") + b"\n\n"):
        data = sse.data_of(event)
        if data and answers.kind(data) == "response":
            pieces.append(sse.with_data(event, responses.result_body(answers.id_of(data), result)))
        else:
            pieces.append(event)
    return b"".join(pieces)


def _paged(exchange: Exchange, rule: PageRule, result: bytes) -> bytes | None:
    cut = paging.paginate(result, rule)
    if cut is None:
        return None
    book, more = cut
    plane = exchange.plane
    if len(book) > plane.settings.cache_bytes // 2:
        return None  # it could not be held: better whole than lost
    handle = secrets.token_hex(16)
    plane.results.keep(_shelf(exchange, handle), (), book, paging.KEPT, 0.0)
    return paging.first_page(book, more, handle, plane.next_page_name)


def _shelf(exchange: Exchange, handle: str) -> Place:
    """Where the pages of a handle are: with another client or credential, nowhere."""
    return Place(digest((b"page", handle.encode(), exchange.variant, exchange.who)), ())


_next_page: Final = msgspec.json.Decoder(NextPageParams)


def next_page(exchange: Exchange, answer: Callable[[bytes | None, str], None]) -> None:
    """Find the page that a call of the `next_page` tool asks for.

    `answer` takes its result, or None and what is wrong.
    """
    assert exchange.message is not None
    try:
        wanted = _next_page.decode(exchange.message.params).arguments
    except msgspec.DecodeError as error:
        answer(
            None, f"The arguments are handle, a string, page, a number, and page_size, a number: {error}."
        )
        return
    if wanted.page_size is not None and wanted.page_size < 1:
        answer(None, f"page_size is 1 to {paging.MAX_PAGE}.")
        return
    plane = exchange.plane
    place = _shelf(exchange, wanted.handle)
    wait = plane.turns.wait(place.key)
    if wait:
        answer(None, f"These pages are read too fast: retry in {wait:.1f} s.")
        return

    def looked(found: Any) -> None:
        try:
            read(found)
        except Exception as error:  # noqa: BLE001 - because whatever it is, the call ends
            exchange.broke("pages", error)

    def read(found: Any) -> None:
        stored = getattr(found, "result", None)
        if stored is None:
            plane.results.release((place,))  # nobody will fetch it
            answer(None, "The handle is unknown or has expired: call the tool again for a new first page.")
            return
        try:
            result = paging.later_page(
                stored, wanted.page, wanted.page_size, wanted.handle, plane.next_page_name
            )
        except ValueError as error:
            answer(None, str(error))
        else:
            answer(result, "")

    near = plane.results.near(place.key)
    if near is not None:
        read(near)
    else:
        plane.results.far((place,), paging.KEPT, looked)
