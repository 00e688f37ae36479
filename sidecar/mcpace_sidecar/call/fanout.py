"""Many calls in one, for the batches of 2025-03-26 and the tool `parallel`: the parts, and what holds them.

Each part is a call of its own and takes the whole path: limits, cache, slots. What the server says to the
client meanwhile (progress, requests) passes in the one answer, which then is an event stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Final, Protocol

from mcpace_sidecar.call import refusals
from mcpace_sidecar.call.answer import Answer
from mcpace_sidecar.call.context import Context
from mcpace_sidecar.call.refusals import Refusal
from mcpace_sidecar.call.stages import PARTS
from mcpace_sidecar.http import sse
from mcpace_sidecar.mcp import answers

MAX_BATCHED: Final = 100
"""Calls that all the `parallel`s of one batch make at most."""
SLICE: Final = 0.005
"""Seconds for which parts are begun at once; then others have their turn."""
MAX_HELD: Final = 16 * 1024 * 1024
"""Bytes of the parts' answers, which are held until the last has come."""
TOO_LARGE: Final = f"The answers of such calls may be {MAX_HELD >> 20} MiB together, and are larger."
NO_ROOM: Final = "There is no room now for the answers of such calls: make fewer at once, or later."

Made = tuple[Context, bytes, bytes, bytes]
"""What a part is made of: context and lines, shared where they are the same; mirrors; its body."""


class Child(Protocol):
    """The call that a part is."""

    answer: Answer

    def begin_part(self) -> None:
        """Begin."""


class Parent(Protocol):
    """The call whose parts they are."""

    def child(self, part: Part, context: Context, lines: bytes, mirrors: bytes, body: bytes) -> Child:
        """A call of the same client's, whose answer goes to a part; it is still to be begun."""


class Part:
    """Where the answer of one part goes: a `Downstream`, and a `Gatherer`."""

    def __init__(self, fanout: Fanout, peer: str) -> None:
        self.peer = peer
        self.call: Child | None = None
        self.response = b""
        """The JSON-RPC response; empty: there is none (a notification), or not yet."""
        self.ended = False
        self._fanout = fanout
        self._events: sse.Events | None = None
        self._pieces: list[bytes] = []

    def told(self, http: int, *, events: bool) -> None:
        """Whether events come, among them the response."""
        del http
        self._events = sse.Events() if events else None

    def goes_elsewhere(self) -> bool:
        """All of it comes here."""
        return False

    def answer(self, head: bytes, body: bytes) -> None:
        """A whole answer: a response, or a stream with one."""
        del head
        if self._events is not None:
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
        del head, length

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
        call = self.call
        if call is None or call.answer.call.message_id == b"null":
            return b""
        return Refusal(refusals.NO_RESPONSE, words).body(call.answer.call.message_id)

    def finish(self) -> None:
        """It is whole."""
        if not self.ended:
            if self._events is not None and not self.response:
                self.send(b"\n\n")  # its last event may lack that
            self.ended = True
            if not self.response:
                self.response = b"".join(self._pieces) or self._no_response("The server gave no response.")
            self._pieces = []
            self.call = None
            self._fanout.part_ended()

    def abort(self) -> None:
        """It broke off."""
        self._pieces = []
        self.finish()


class Fanout:
    """The parts of one call, and the answer that is made of theirs. It is what the call waits for."""

    def __init__(self, parent: Parent, answer: Answer, compose: Callable[[Fanout], None]) -> None:
        """`compose` answers the call when all parts have ended."""
        self.parts: list[Part] = []
        self.streaming = False
        self.held = 0
        """Bytes of answers that are held."""
        self.calls = 0
        """Calls of the `parallel`s among the parts."""
        self._parent = parent
        self._answer = answer
        self._ledger = answer.plane.pool.gathered
        self._compose = compose
        self._left = 0
        self._rest: Iterator[Made] | None = None
        """The parts that have not begun."""

    def start(self, count: int, parts: Iterator[Made]) -> None:
        """Send so many parts on their way: each is made when it begins, some in each turn of the loop."""
        self._answer.call.stage = PARTS
        self._answer.waiting = self
        self._left = count
        self._rest = parts
        self._begin()

    def _begin(self) -> None:
        due = monotonic() + SLICE
        while self._rest is not None:
            made = next(self._rest, None)
            if made is None:
                self._rest = None
                return
            part = Part(self, self._answer.downstream.peer)
            part.call = child = self._parent.child(part, *made)
            self.parts.append(part)
            child.begin_part()
            if monotonic() >= due:
                asyncio.get_running_loop().call_soon(self._go_on)
                return

    def _go_on(self) -> None:
        try:
            self._begin()
        except Exception as error:  # noqa: BLE001 - because the others' turn is not theirs to end
            self._answer.broke("parts", error)

    def hold(self, size: int) -> str:
        """Hold so many bytes more of answers until the last has come; or say why they cannot be."""
        if self.held + size > MAX_HELD:
            return TOO_LARGE
        if self._answer.ended or not self._ledger.take(size):
            return NO_ROOM
        self.held += size
        return ""

    def let_go(self, size: int) -> None:
        """Hold so many bytes less."""
        self.held -= size
        self._ledger.give(size)

    def pass_on(self, event: bytes) -> None:
        """Something for the client before the end."""
        if self._answer.ended:
            return
        try:
            if not self.streaming:
                self.streaming = True
                self._answer.begin(refusals.OK_EVENTS, None, 200, events=True)
            self._answer.send(event)
        except Exception as error:  # noqa: BLE001 - because the part is well
            self._answer.broke("parts", error)

    def part_ended(self) -> None:
        """One part less to wait for."""
        self._left -= 1
        if self._left == 0 and not self._answer.ended:
            try:
                self._compose(self)
            except Exception as error:  # noqa: BLE001 - because the part has ended well
                self._answer.broke("parts", error)
            self.parts = []

    def leads_on(self) -> bool:
        """Whether a part has not ended."""
        return self._rest is not None or any(part.call is not None for part in self.parts)

    def cancel(self) -> None:
        """The call has ended: nobody waits for the parts any more."""
        self._rest = None
        self.let_go(self.held)
        parts, self.parts = self.parts, []
        for part in parts:
            call, part.call = part.call, None  # which knows the part: no cycle stays
            if call is not None:
                call.answer.client_gone()

    def pause(self, paused: bool) -> None:
        """The client reads too slowly, or again."""
        for part in self.parts:
            if part.call is not None and not part.ended:
                part.call.answer.client_paused(paused)
