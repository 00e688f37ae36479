"""Many calls in one: the batches of 2025-03-26, and the tool `parallel`.

Each part is an exchange of its own and takes the whole path: limits, cache, slots. What the
server says to the client meanwhile (progress, requests) passes in the one answer, which then
is an event stream.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterator, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import msgspec

from mcpace_sidecar.call import refusals
from mcpace_sidecar.call.context import Context, without_mirrors
from mcpace_sidecar.call.policies import PARALLEL
from mcpace_sidecar.call.refusals import Refusal
from mcpace_sidecar.http import sse
from mcpace_sidecar.http.downstream import status_line
from mcpace_sidecar.mcp import answers, headers, request, responses
from mcpace_sidecar.mcp.methods import TOOLS_CALL
from mcpace_sidecar.mcp.strictness import MessageError

if TYPE_CHECKING:
    from mcpace_sidecar.call.exchange import Exchange

MAX_PARALLEL: Final = 32
MAX_BATCHED: Final = 100
"""Calls that all the `parallel`s of one batch make at most."""
MAX_META: Final = 256 * 1024
"""Bytes of the `_meta` that all the calls of one `parallel` get."""
SLICE: Final = 0.005
"""Seconds for which parts are begun at once; then others have their turn."""
MAX_HELD: Final = 16 * 1024 * 1024
"""Bytes of the parts' answers, which are held until the last has come."""
TOO_LARGE: Final = f"The answers of such calls may be {MAX_HELD >> 20} MiB together, and are larger."
NO_ROOM: Final = "There is no room now for the answers of such calls: make fewer at once, or later."

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


_Made = tuple[Context, bytes, bytes, bytes]
"""What a part is made of: context and lines, shared where they are the same; mirrors; its body."""


class Part:
    """Where the answer of one part goes: a `Downstream` that gathers."""

    def __init__(self, fanout: Fanout, peer: str) -> None:
        self.peer = peer
        self.exchange: Exchange | None = None
        self.response = b""
        """The JSON-RPC response; empty: there is none (a notification), or not yet."""
        self.ended = False
        self._fanout = fanout
        self._events: sse.Events | None = None
        self._pieces: list[bytes] = []

    def answer(self, head: bytes, body: bytes) -> None:
        """A whole answer: a response, or a stream with one."""
        if b"text/event-stream" in head.lower():
            self._events = sse.Events()
            self.send(body)
        elif body and answers.kind(body) == "response":
            self._keep(body)
        self.finish()

    def answer_empty(self, head: bytes) -> None:
        """Nothing to answer."""
        del head
        self.finish()

    def start(self, head: bytes, length: int | None) -> None:
        """A streamed answer begins."""
        del length
        if b"text/event-stream" in head.lower():
            self._events = sse.Events()

    def send(self, piece: bytes) -> None:
        """The next bytes of a begun answer."""
        if self._events is None:
            self._keep_piece(piece)
            return
        for event in self._events.feed(piece):
            data = sse.data_of(event)
            what = answers.kind(data) if data else ""
            if what == "response":
                self._keep(data)
            elif what:
                self._fanout.pass_on(sse.event_of(data))

    def may_call(self, count: int) -> bool:
        """Whether it may make so many calls more of its own."""
        if self._fanout.calls + count > MAX_BATCHED:
            return False
        self._fanout.calls += count
        return True

    def _keep(self, response: bytes) -> None:
        words = self._fanout.hold(len(response))
        self.response = self._no_response(words) if words else response

    def _keep_piece(self, piece: bytes) -> None:
        if self.response:
            return  # it is too large already
        words = self._fanout.hold(len(piece))
        if words:
            self._fanout.let_go(sum(len(each) for each in self._pieces))
            self._pieces = []
            self.response = self._no_response(words)
        else:
            self._pieces.append(piece)

    def _no_response(self, words: str) -> bytes:
        exchange = self.exchange
        if exchange is None or exchange.message_id == b"null":
            return b""
        return Refusal(refusals.NO_RESPONSE, words).body(exchange.message_id)

    def finish(self) -> None:
        """It is whole."""
        if not self.ended:
            if self._events is not None and not self.response:
                self.send(b"\n\n")  # its last event may lack that
            self.ended = True
            if not self.response:
                self.response = b"".join(self._pieces) or self._no_response("The server gave no response.")
            self._pieces = []
            self.exchange = None
            self._fanout.part_ended()

    def abort(self) -> None:
        """It broke off."""
        self._pieces = []
        self.finish()


class Fanout:
    """The parts of one exchange, and the answer that is made of theirs."""

    def __init__(self, exchange: Exchange, compose: Callable[[Fanout], None]) -> None:
        """`compose` answers the exchange when all parts have ended."""
        self.parts: list[Part] = []
        self.streaming = False
        self.held = 0
        """Bytes of answers that are held."""
        self.calls = 0
        """Calls of the `parallel`s among the parts."""
        self._exchange = exchange
        self._ledger = exchange.plane.pool.gathered
        self._compose = compose
        self._left = 0
        self._rest: Iterator[_Made] | None = None
        """The parts that have not begun."""

    def start(self, count: int, parts: Iterator[_Made]) -> None:
        """Send so many parts on their way: each is made when it begins, some in each turn of the loop."""
        self._left = count
        self._rest = parts
        self._begin()

    def _begin(self) -> None:
        exchange = self._exchange
        due = monotonic() + SLICE
        while self._rest is not None:
            made = next(self._rest, None)
            if made is None:
                self._rest = None
                return
            part = Part(self, exchange.downstream.peer)
            part.exchange = child = exchange.child(part, *made)
            self.parts.append(part)
            child.begin_part()
            if monotonic() >= due:
                asyncio.get_running_loop().call_soon(self._go_on)
                return

    def _go_on(self) -> None:
        try:
            self._begin()
        except Exception as error:  # noqa: BLE001 - because the others' turn is not theirs to end
            self._exchange.broke("parts", error)

    def hold(self, size: int) -> str:
        """Hold so many bytes more of answers until the last has come; or say why they cannot be."""
        if self.held + size > MAX_HELD:
            return TOO_LARGE
        if self._exchange.ended or not self._ledger.take(size):
            return NO_ROOM
        self.held += size
        return ""

    def let_go(self, size: int) -> None:
        """Hold so many bytes less."""
        self.held -= size
        self._ledger.give(size)

    def pass_on(self, event: bytes) -> None:
        """Something for the client before the end."""
        exchange = self._exchange
        if exchange.ended:
            return
        try:
            if not self.streaming:
                self.streaming = True
                exchange.begin(status_line(200) + refusals.EVENTS, None)
            exchange.downstream.send(event)
        except Exception as error:  # noqa: BLE001 - because the part is well
            exchange.broke("parts", error)

    def part_ended(self) -> None:
        """One part less to wait for."""
        self._left -= 1
        if self._left == 0 and not self._exchange.ended:
            try:
                self._compose(self)
            except Exception as error:  # noqa: BLE001 - because the part has ended well
                self._exchange.broke("parts", error)
            self.parts = []

    @property
    def waits(self) -> bool:
        """Whether a part has not ended."""
        return self._rest is not None or any(part.exchange is not None for part in self.parts)

    def cancel(self) -> None:
        """The exchange has ended: nobody waits for the parts any more."""
        self._rest = None
        self.let_go(self.held)
        parts, self.parts = self.parts, []
        for part in parts:
            if part.exchange is not None:
                part.exchange.client_gone()

    def pause(self, paused: bool) -> None:
        """The client reads too slowly, or again."""
        for part in self.parts:
            if part.exchange is not None and not part.ended:
                part.exchange.client_paused(paused)


def batch(exchange: Exchange) -> None:
    """Start the messages of a batch (MCP 2025-03-26, basic/transports); MessageError."""
    if isinstance(exchange.downstream, Part):
        raise MessageError(responses.INVALID_REQUEST, "A batch holds messages, and no other batch.")
    bodies = request.split(exchange.body)
    exchange.body = b""  # its parts have it

    def compose(fanout: Fanout) -> None:
        responses = [part.response for part in fanout.parts if part.response]
        if fanout.streaming:
            for response in responses:
                exchange.downstream.send(sse.event_of(response))
            exchange.settle("success")
        elif responses:
            exchange.settle("success", refusals.OK_JSON, b"[" + b",".join(responses) + b"]")
        else:
            exchange.settle("success", status_line(202))

    fanout = Fanout(exchange, compose)
    exchange.fanout = fanout
    context = exchange.context.uncompressed(exchange.head)
    fanout.start(len(bodies), ((context, exchange.lines, exchange.mirrors, body) for body in bodies))


class _Call(msgspec.Struct):
    tool: str
    arguments: msgspec.Raw = msgspec.Raw(b"{}")


class _Calls(msgspec.Struct):
    calls: list[_Call]


class _Params(msgspec.Struct):
    arguments: _Calls
    meta: dict[str, msgspec.Raw] = msgspec.field(name="_meta", default_factory=dict)


_params: Final = msgspec.json.Decoder(_Params)


def parallel(exchange: Exchange) -> str:
    """Start the calls of the tool `parallel`; return what is wrong with them, or nothing."""
    assert exchange.message is not None
    if exchange.message.halved:
        return "The arguments hold half of a surrogate pair: readers differ about what it is."
    try:
        params = _params.decode(exchange.message.params)
    except msgspec.DecodeError as error:
        return f"The argument is calls, a list of {{tool, arguments}}: {error}."
    calls = params.arguments.calls
    if not 1 <= len(calls) <= MAX_PARALLEL:
        return f"calls holds 1 to {MAX_PARALLEL} calls."
    if any(call.tool == PARALLEL for call in calls):
        return "parallel does not call itself: write its calls into this list."
    if isinstance(exchange.downstream, Part) and not exchange.downstream.may_call(len(calls)):
        return f"The calls of parallel are {MAX_BATCHED} in one batch at most: send the others in another."

    def compose(fanout: Fanout) -> None:
        _answer_parallel(exchange, fanout, calls)

    meta = {key: value for key, value in params.meta.items() if key != "progressToken"}
    if sum(len(key) + len(bytes(value)) for key, value in meta.items()) * len(calls) > MAX_META:
        return "_meta goes with each of the calls, and is too long for so many: shorten it, or make fewer."
    stem = secrets.token_hex(6)
    context, lines = exchange.context.unmirrored(exchange.head), without_mirrors(exchange.lines)

    def parts() -> Iterator[_Made]:
        for number, call in enumerate(calls):
            message = {
                "jsonrpc": "2.0",
                "id": f"mcpace-{stem}-{number}",
                "method": TOOLS_CALL,
                "params": {"name": call.tool, "arguments": call.arguments}
                | ({"_meta": meta} if meta else {}),
            }
            mirrors = exchange.context.mirrored(*_mirrored(exchange, call))
            yield context, lines, mirrors, msgspec.json.encode(message)

    fanout = Fanout(exchange, compose)
    exchange.fanout = fanout
    fanout.start(len(calls), parts())
    return ""


def _mirrored(exchange: Exchange, call: _Call) -> tuple[bytes, bytes]:
    """What the headers of a call mirror: its name's value, and the lines of its arguments."""
    wanted = exchange.plane.catalog.mirrored.get(call.tool)
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


def _answer_parallel(exchange: Exchange, fanout: Fanout, calls: Sequence[_Call]) -> None:
    results: list[Any] = []
    errors = []
    for number, (part, call) in enumerate(zip(fanout.parts, calls, strict=True)):
        result, words = _read(part.response)
        results.append(result)
        if words:
            errors.append({"index": number, "tool": call.tool, "message": words})
    summary = {
        "results": results,
        "errors": errors,
        "total": len(calls),
        "succeeded": len(calls) - len(errors),
    }
    text = msgspec.json.encode(summary)
    body = responses.result_body(
        exchange.message_id,
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
        exchange.downstream.send(sse.event_of(body))
        exchange.settle("success", sent=len(body))
    else:
        exchange.settle("success", refusals.OK_JSON, body)


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
