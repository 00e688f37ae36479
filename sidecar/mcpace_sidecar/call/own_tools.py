"""The tools that the sidecar itself offers, beside the server's own: in the list, and called."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from mcpace_sidecar.call import pages, parallel, refusals
from mcpace_sidecar.call.answer import Answer
from mcpace_sidecar.call.fanout import Parent
from mcpace_sidecar.call.plane import Plane
from mcpace_sidecar.call.policies import PARALLEL
from mcpace_sidecar.mcp import responses
from mcpace_sidecar.mcp.request import Message

_decode: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_tools: Final = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])


def start(parent: Parent, answer: Answer, message: Message) -> bool:
    """Answer the call of a tool, now or later, if the tool is ours."""
    plane = answer.plane

    def done(result: bytes | None, words: str) -> None:
        message_id = answer.call.message_id
        if result is not None:
            answer.settle("success", refusals.OK_JSON, responses.result_body(message_id, result))
        else:
            answer.settle("error", refusals.OK_JSON, refusals.tool_error(message_id, words))

    if message.target == PARALLEL and plane.offers_parallel:
        words = parallel.start(parent, answer, message)
        if words:
            done(None, words)
        return True
    if answer.call.context.settings.paging and message.target == plane.next_page_name:
        pages.read(answer, message, done)
        return True
    return False


def listed(plane: Plane, result: bytes) -> bytes | None:
    """The list of tools: ours beside the server's; those that are paged promise no schema."""
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
            offered.append(pages.NEXT_PAGE_TOOL | {"name": plane.next_page_name})
        if plane.offers_parallel:
            offered.append(parallel.PARALLEL_TOOL)
    fields["tools"] = msgspec.Raw(msgspec.json.encode(offered))
    return msgspec.json.encode(fields)
