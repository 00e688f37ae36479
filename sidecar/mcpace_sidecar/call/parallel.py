"""The tool `parallel`: many calls of tools in one, and their results in one."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from mcpace_sidecar.call import refusals
from mcpace_sidecar.call.answer import Answer
from mcpace_sidecar.call.context import without_mirrors
from mcpace_sidecar.call.fanout import MAX_BATCHED, Fanout, Made, Parent, Part
from mcpace_sidecar.call.plane import Plane
from mcpace_sidecar.call.policies import PARALLEL
from mcpace_sidecar.http import sse
from mcpace_sidecar.mcp import headers, responses
from mcpace_sidecar.mcp.methods import TOOLS_CALL
from mcpace_sidecar.mcp.request import Message

MAX_PARALLEL: Final = 32
MAX_META: Final = 256 * 1024
"""Bytes of the `_meta` that all the calls of one `parallel` get."""
PARALLEL_TOOL: Final[dict[str, Any]] = {
    "name": PARALLEL,
    "title": "Call tools in parallel",
    "description": f"Call up to {MAX_PARALLEL} tools at once and get all results in one answer, in order."
    " Use it for calls that do not depend on each other.",
    "inputSchema": {
        "type": "object",
        "properties": {
            "calls": {
                "type": "array",
                "minItems": 1,
                "maxItems": MAX_PARALLEL,
                "items": {
                    "type": "object",
                    "properties": {"tool": {"type": "string"}, "arguments": {"type": "object"}},
                    "required": ["tool"],
                },
            }
        },
        "required": ["calls"],
    },
    "outputSchema": {
        "type": "object",
        "properties": {
            "results": {
                "type": "array",
                "description": "One for each call, in order: its result, or null.",
                "items": {"type": ["object", "null"]},
            },
            "errors": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "index": {"type": "integer"},
                        "tool": {"type": "string"},
                        "message": {"type": "string"},
                    },
                    "required": ["index", "tool", "message"],
                },
            },
            "total": {"type": "integer"},
            "succeeded": {"type": "integer"},
        },
        "required": ["results", "errors", "total", "succeeded"],
    },
}


class _Call(msgspec.Struct):
    tool: str
    arguments: msgspec.Raw = msgspec.Raw(b"{}")


class _Calls(msgspec.Struct):
    calls: list[_Call]


class _Params(msgspec.Struct):
    arguments: _Calls
    meta: dict[str, msgspec.Raw] = msgspec.field(name="_meta", default_factory=dict)


_params: Final = msgspec.json.Decoder(_Params)


def start(parent: Parent, answer: Answer, message: Message) -> str:
    """Start the calls of the tool; return what is wrong with them, or nothing."""
    if message.halved:
        return "The arguments hold half of a surrogate pair: readers differ about what it is."
    try:
        params = _params.decode(message.params)
    except msgspec.DecodeError as error:
        return f"The argument is calls, a list of {{tool, arguments}}: {error}."
    calls = params.arguments.calls
    if not 1 <= len(calls) <= MAX_PARALLEL:
        return f"calls holds 1 to {MAX_PARALLEL} calls."
    if any(each.tool == PARALLEL for each in calls):
        return "parallel does not call itself: write its calls into this list."
    call, downstream = answer.call, answer.downstream
    if isinstance(downstream, Part) and not downstream.may_call(len(calls)):
        return f"The calls of parallel are {MAX_BATCHED} in one batch at most: send the others in another."

    def compose(fanout: Fanout) -> None:
        _compose(answer, fanout, calls)

    meta = {key: value for key, value in params.meta.items() if key != "progressToken"}
    if sum(len(key) + len(bytes(value)) for key, value in meta.items()) * len(calls) > MAX_META:
        return "_meta goes with each of the calls, and is too long for so many: shorten it, or make fewer."
    stem = secrets.token_hex(6)
    context, lines = call.context.unmirrored(call.head), without_mirrors(call.lines)

    def parts() -> Iterator[Made]:
        for number, each in enumerate(calls):
            message = {
                "jsonrpc": "2.0",
                "id": f"mcpace-{stem}-{number}",
                "method": TOOLS_CALL,
                "params": {"name": each.tool, "arguments": each.arguments}
                | ({"_meta": meta} if meta else {}),
            }
            mirrors = call.context.mirrored(*_mirrored(answer.plane, each))
            yield context, lines, mirrors, msgspec.json.encode(message)

    Fanout(parent, answer, compose).start(len(calls), parts())
    return ""


def _mirrored(plane: Plane, call: _Call) -> tuple[bytes, bytes]:
    """What the headers of a call mirror: its name's value, and the lines of its arguments."""
    wanted = plane.catalog.mirrored.get(call.tool)
    arguments = msgspec.json.decode(call.arguments) if wanted else None
    return headers.header_value(call.tool), headers.lines(wanted, arguments) if wanted else b""


class _Response(msgspec.Struct):
    result: msgspec.Raw = msgspec.Raw(b"")
    error: dict[str, Any] | None = None


class _Text(msgspec.Struct):
    text: str = ""


class _Result(msgspec.Struct, rename="camel"):
    is_error: bool = False
    content: list[_Text] = []


def _compose(answer: Answer, fanout: Fanout, calls: Sequence[_Call]) -> None:
    results: list[Any] = []
    errors = []
    for number, (part, each) in enumerate(zip(fanout.parts, calls, strict=True)):
        result, words = _read(part.response)
        results.append(result)
        if words:
            errors.append({"index": number, "tool": each.tool, "message": words})
    summary = {
        "results": results,
        "errors": errors,
        "total": len(calls),
        "succeeded": len(calls) - len(errors),
    }
    text = msgspec.json.encode(summary)
    body = responses.result_body(
        answer.call.message_id,
        msgspec.json.encode(
            {
                "content": [{"type": "text", "text": text.decode()}],
                "structuredContent": msgspec.Raw(text),
                "isError": False,
                "resultType": "complete",
            }
        ),
    )
    if fanout.streaming:
        answer.send(sse.event_of(body))
        answer.settle("success", sent=len(body))
    else:
        answer.settle("success", refusals.OK_JSON, body)


def _read(response: bytes) -> tuple[msgspec.Raw | None, str]:
    """Return (the result or None, what went wrong or nothing)."""
    try:
        answer = msgspec.json.decode(response, type=_Response)
        if not answer.result:
            return None, str((answer.error or {}).get("message", "The server gave no result."))
        result = msgspec.json.decode(answer.result, type=_Result)
    except msgspec.DecodeError:
        return None, "The server gave no result."
    if result.is_error:
        return answer.result, " ".join(block.text for block in result.content) or "The tool failed."
    return answer.result, ""
