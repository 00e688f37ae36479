"""The load: steps of calls to one server, as quickly as it answers or at a rate, and how long each took.

A lean client on the project's own connections: no task, no future and no validation a call, so that what is
measured is the server and not who asks it. The closed loop asks anew when it was answered: while a server
is slow it is asked less, and what would have waited is not seen. The open loop asks when it is time to, and
counts from then (coordinated omission is avoided).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import monotonic, perf_counter
from typing import Any, Final, NamedTuple

import msgspec

from mcpace_cli.bench.answer import ACCEPTED, LARGEST, decoded, is_tool, judged
from mcpace_cli.bench.result import ToolWindow, Window
from mcpace_cli.target import Target
from mcpace_sidecar.contract.histogram import bucket
from mcpace_sidecar.errors import McpaceError, UpstreamError
from mcpace_sidecar.http.head import ResponseHead
from mcpace_sidecar.http.pool import Pool
from mcpace_sidecar.http.receiver import ByStatus
from mcpace_sidecar.mcp import headers
from mcpace_sidecar.server.session import Session, conversation

PARALLEL: Final = "parallel"
"""The sidecar's own tool, which makes many calls at once."""
PATIENCE: Final = 30.0
"""Seconds that a server may be silent; then a call has failed."""
BINS: Final = 20
"""Parts of a window in which answers are counted, for a line over time."""
_FIRST_ID: Final = 1_000_000_000
_MOST_IDS: Final = 8_999_999_999
"""Every id is as long as the first, and no two calls of a run bear the same."""
_MARK: Final = b'"id":%d' % _FIRST_ID
_PAGES: Final = 100
_TURN: Final = 16
"""Steps that are begun in a row by a load that is late."""
_LEGIBLE: Final = 300


class Call(NamedTuple):
    """One call of a tool. `schema` is its input schema, which may want arguments mirrored in headers."""

    tool: str
    arguments: dict[str, Any]
    schema: Any


Step = tuple[Call, ...]
"""Calls that belong together: made one after another, or at once where the sidecar offers `parallel`."""


class Server:
    """One server under load: its connections, and a conversation for each client."""

    def __init__(self, target: Target, clients: int) -> None:
        self._target = target
        self.pool = Pool(target.address, ssl.create_default_context() if target.tls else None)
        self._sessions: list[Session] = []
        self._clients = clients
        self._sweeping: asyncio.Task[None] | None = None
        self._messages: dict[tuple[int, int, bool], _Messages] = {}
        self._ids = 0

    async def begin(self) -> None:
        """Begin every client's conversation; McpaceError."""
        self._sweeping = asyncio.get_running_loop().create_task(self._sweep())
        for _ in range(self._clients):
            session = Session(self.pool, self._target.path, self._target.headers)
            session.timeout = PATIENCE
            with conversation():
                await session.begin()
            self._sessions.append(session)

    async def end(self) -> None:
        """End what was begun."""
        for session in self._sessions:
            try:
                with conversation():
                    await session.end()
            except McpaceError:
                break  # it is gone
        if self._sweeping is not None:
            self._sweeping.cancel()
        await self.pool.close()

    async def tools(self) -> list[dict[str, Any]]:
        """Every tool that it lists; McpaceError."""
        found: list[dict[str, Any]] = []
        cursor: dict[str, Any] = {}
        with conversation():
            for _ in range(_PAGES):
                answer = await self._sessions[0].call("tools/list", cursor)
                listed = answer.get("tools")
                found += [tool for tool in listed if is_tool(tool)] if isinstance(listed, list) else []
                if not isinstance(answer.get("nextCursor"), str):
                    break
                cursor = {"cursor": answer["nextCursor"]}
        return found

    async def trial(self, call: Call) -> str:
        """Make one call; what it says where it fails, in its own words, and nothing where it succeeds."""
        try:
            with conversation():
                params = {"name": call.tool, "arguments": call.arguments}
                answer = await self._sessions[0].call("tools/call", params)
        except McpaceError as error:
            return str(error)[:_LEGIBLE] or "no words"
        if answer.get("isError") is not True:
            return ""
        content = answer.get("content")
        texts = (
            [part.get("text") for part in content if isinstance(part, dict)]
            if isinstance(content, list)
            else []
        )
        return next((text[:_LEGIBLE] for text in texts if isinstance(text, str) and text), "no words")

    async def closed(
        self, steps: Sequence[Step], draw: Iterator[int], seconds: float, *, parallel: bool
    ) -> Window:
        """One window in which each client makes its next step when the last one is answered."""
        window = _Running(seconds)

        def another(client: int) -> None:
            if perf_counter() < window.until:
                self._start(window, client, steps[next(draw)], perf_counter(), parallel, another)

        for client in range(self._clients):
            another(client)
        return await window.ended()

    async def opened(
        self, steps: Sequence[Step], draw: Iterator[int], seconds: float, rate: float, *, parallel: bool
    ) -> Window:
        """One window in which steps begin `rate` times a second, whoever is still waiting."""
        window = _Running(seconds)
        number = max(1, round(seconds * rate))
        loop = asyncio.get_running_loop()
        for at in range(number):
            moment = window.began + at / rate
            wait = moment - perf_counter()
            if wait > 0:
                await _pause(loop, wait)
            elif at % _TURN == 0:
                await asyncio.sleep(0)  # whoever is late still reads answers
            self._start(window, at % self._clients, steps[next(draw)], moment, parallel, _nobody)
        return await window.ended()

    def _start(
        self, window: _Running, client: int, step: Step, began: float, parallel: bool,
        then: Callable[[int], None],
    ) -> None:  # fmt: skip
        key = (client, id(step), parallel)
        messages = self._messages.get(key)
        if messages is None:
            messages = _Messages(step, tuple(self._written(client, step, parallel)))
            self._messages[key] = messages
        _Flight(self, window, messages, began, client, then).send()

    def _written(self, client: int, step: Step, parallel: bool) -> Iterator[tuple[bytes, bytes]]:
        """The messages of a step, cut where their id stands."""
        calls = step
        if parallel:
            parts = [{"tool": call.tool, "arguments": call.arguments} for call in step]
            calls = (Call(PARALLEL, {"calls": parts}, None),)
        session = self._sessions[client]
        for call in calls:
            mirrors = {"Mcp-Method": "tools/call", "Mcp-Name": headers.header_value(call.tool).decode()}
            for line in headers.lines(headers.mirrored(call.schema), call.arguments).decode().splitlines():
                name, _, value = line.partition(": ")
                mirrors[name] = value
            params: dict[str, Any] = {"name": call.tool, "arguments": call.arguments}
            message = {
                "jsonrpc": "2.0",
                "id": _FIRST_ID,
                "method": "tools/call",
                "params": session.completed(params),
            }
            request = session.request("POST", message, {"Accept-Encoding": ACCEPTED, **mirrors})
            at = request.index(_MARK, request.index(b"\r\n\r\n"))
            yield request[: at + 5], request[at + len(_MARK) :]

    def next_id(self) -> bytes:
        """The id of the next call."""
        self._ids = (self._ids + 1) % _MOST_IDS
        return b"%d" % (_FIRST_ID + self._ids)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            self.pool.sweep(monotonic())


class _Messages(NamedTuple):
    """A step as it is sent."""

    step: Step
    """It is held here, so that no other gets its id."""
    texts: tuple[tuple[bytes, bytes], ...]
    """Each message, cut where its id stands."""

    @property
    def tool(self) -> str:
        """Whose calls they all are; empty where they are of several."""
        tools = {call.tool for call in self.step}
        return tools.pop() if len(tools) == 1 else ""


class _Running:
    """A window that runs: what has happened in it so far."""

    def __init__(self, seconds: float) -> None:
        self.began = perf_counter()
        self.until = self.began + seconds
        self._seconds = seconds
        self._flying = 0
        self._last = self.began
        self._late = 0.0
        self._closed = False
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._histogram: dict[int, int] = {}
        self._failed: dict[str, int] = {}
        self._bins = [0] * BINS
        self._tools: dict[str, _Tool] = {}
        self._steps = self._calls = self._received = self._decoded = 0
        self._longest = 0.0

    def took_off(self, began: float) -> None:
        """A step begins that was to begin then."""
        self._flying += 1
        self._late = max(self._late, perf_counter() - began)

    def landed(self, now: float, flight: _Flight, failed: str) -> None:
        """A step has ended; `failed` says how, where it has."""
        took, calls = now - flight.began, len(flight.messages.step)
        self._last = now
        self._steps += 1
        self._calls += calls
        self._received += flight.received
        self._decoded += flight.decoded
        name = flight.messages.tool
        tool = self._tools.get(name)
        if tool is None:
            tool = self._tools[name] = _Tool({})
        tool.calls += calls
        tool.received += flight.received
        if failed:
            self._failed[failed] = self._failed.get(failed, 0) + 1
            tool.failed += 1
            return
        number = bucket(took)
        self._histogram[number] = self._histogram.get(number, 0) + 1
        tool.histogram[number] = tool.histogram.get(number, 0) + 1
        self._longest = max(self._longest, took)
        self._bins[min(BINS - 1, int((now - self.began) / self._seconds * BINS))] += calls

    def over(self) -> None:
        """Whoever made a step has begun the next, or makes no more."""
        self._flying -= 1
        self._settle()

    def _settle(self) -> None:
        if self._closed and not self._flying and not self._done.done():
            self._done.set_result(None)

    async def ended(self) -> Window:
        """What it has shown, once every step has ended."""
        self._closed = True
        self._settle()
        await self._done
        return Window(
            seconds=max(self._last - self.began, 1e-6),
            steps=self._steps,
            calls=self._calls,
            failed=self._failed,
            histogram=self._histogram,
            longest=self._longest,
            received=self._received,
            decoded=self._decoded,
            late=self._late,
            bins=tuple(self._bins),
            tools={
                name: ToolWindow(each.calls, each.failed, each.received, each.histogram)
                for name, each in self._tools.items()
                if name
            },
        )


@dataclass
class _Tool:
    """What a window has shown of one tool so far."""

    histogram: dict[int, int]
    calls: int = 0
    failed: int = 0
    received: int = 0


class _Flight(ByStatus):
    """One step on its way: its messages, one after another."""

    def __init__(
        self, server: Server, window: _Running, messages: _Messages, began: float, client: int,
        then: Callable[[int], None],
    ) -> None:  # fmt: skip
        self._server = server
        self._window = window
        self.messages = messages
        self.began = began
        self.received = 0
        self.decoded = 0
        self._client = client
        self._then = then
        self._at = 0
        self._failed = ""
        self._head: ResponseHead | None = None
        self._pieces: list[bytes] = []
        self._left = LARGEST
        self._ticket: Any = None
        window.took_off(began)

    def send(self) -> None:
        """Send its next message."""
        begin, end = self.messages.texts[self._at]
        self._pieces, self._left = [], LARGEST
        self._ticket = self._server.pool.request((begin + self._server.next_id() + end,), self, PATIENCE)

    def on_answer(self, head: ResponseHead, body: bytes) -> None:
        """The whole answer."""
        now = perf_counter()  # what follows is our own work, not the server's
        text = decoded(head, body)
        self.received += len(body)
        self.decoded += len(text or b"")
        self._failed = self._failed or (judged(head, text) if text is not None else "coding")
        self._at += 1
        if self._at < len(self.messages.texts):
            self.send()
            return
        self._window.landed(now, self, self._failed)
        self._over()

    def _over(self) -> None:
        self._then(self._client)
        self._window.over()

    def on_head(self, head: ResponseHead) -> None:
        """The head of a streamed answer."""
        self._head = head

    def on_piece(self, piece: bytes) -> None:
        """The next bytes of it."""
        self._left -= len(piece)
        if self._left < 0:
            self._ticket.cancel()
            self.on_failure(UpstreamError("too large", "The answer is too large."))
            return
        self._pieces.append(piece)

    def on_end(self) -> None:
        """Its end."""
        assert self._head is not None
        self.on_answer(self._head, b"".join(self._pieces))

    def on_failure(self, error: UpstreamError) -> None:
        """No answer."""
        self._window.landed(perf_counter(), self, error.reason)
        # Whoever refuses at once is not asked again at once, without an end.
        asyncio.get_running_loop().call_later(0.01, self._over)


def _nobody(client: int) -> None:
    """In the open loop nobody waits for an answer to ask again."""
    del client


async def _pause(loop: asyncio.AbstractEventLoop, seconds: float) -> None:
    """Wait; not by `sleep`, which makes more of it."""
    waiting: asyncio.Future[None] = loop.create_future()
    timer = loop.call_later(seconds, waiting.set_result, None)
    try:
        await waiting
    finally:
        timer.cancel()


def same(step: Step) -> bytes:
    """A step as one text, by which steps are told apart."""
    return msgspec.json.encode([[call.tool, call.arguments] for call in step])
