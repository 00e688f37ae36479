"""What is known of a call on its way, and how it ends: every answer that is not the server's own words.

Each call ends once, by `_record` if it was judged and by `_end` in any case.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

from mcpace_sidecar import compression, messages, replies
from mcpace_sidecar.cache.entry import Place
from mcpace_sidecar.events import CacheUse, CallEnded, Status
from mcpace_sidecar.http.head import RequestHead
from mcpace_sidecar.http.server import Downstream
from mcpace_sidecar.identity import Client
from mcpace_sidecar.limits.bucket import Charges, Verdict
from mcpace_sidecar.lookup import Lookup
from mcpace_sidecar.messages import Message
from mcpace_sidecar.notes import Notes
from mcpace_sidecar.settings import Settings
from mcpace_sidecar.ssepair import PairStream
from mcpace_sidecar.streamed import Streamed
from mcpace_sidecar.treatment import Treatment
from mcpace_sidecar.upstream import Ticket

if TYPE_CHECKING:
    from mcpace_sidecar.dataplane import DataPlane
    from mcpace_sidecar.fanout import Fanout


class Call:
    """One message, as far as it has come. `Exchange` leads it on; here it is answered and ended."""

    # Defaults of the class, not set for each instance: most of them stay so.
    client: Client | None = None
    message: Message | None = None
    reads = False
    """Whether the result is wanted, to be kept or shaped."""
    limit_lines = b""
    ended = False
    deadline = 0.0
    judged = False
    """Whether limits, slots and breakers count it."""
    span = b""
    """The `traceparent` of its own span, where traces are made."""
    label = ""
    """The name under which metrics and breakers know it."""
    _charges: Charges | None = None
    _treatment: Treatment | None = None
    _places: tuple[Place, ...] = ()
    """Where its result may be kept."""
    _lookup: Lookup | None = None
    _refreshing = False
    _cache_use: CacheUse = ""
    _parent = b""
    """The `traceparent` it came with, where its own span has taken that one's place."""
    _admitted = False
    _seated = False
    _retried = False
    _shape: Callable[[bytes], bytes | None] | None = None
    _parked: asyncio.Task[None] | None = None
    _streamed: Streamed | None = None
    _pair_stream: PairStream | None = None
    pair: PairStream | None = None
    """The stream of 2024-11-05 that the answer goes to."""
    fanout: Fanout | None = None

    def __init__(
        self, plane: DataPlane, downstream: Downstream, head: RequestHead, notes: Notes, body: bytes,
        trace: bytes = b"",
    ) -> None:  # fmt: skip
        """`trace`: the line of the request's `traceparent`, where its head is held without it."""
        self.plane = plane
        self._settings: Settings = notes.settings
        self.downstream = downstream
        self.head = head
        self.notes = notes
        self.body = body
        self.trace = trace
        self.started = monotonic()
        self._ticket: Ticket | None = None

    def _answer(self, head: bytes, body: bytes, *, compressible: bool = True) -> None:
        if len(body) > self._settings.compress_over and self.notes.coding and compressible:
            small = compression.compress(self.notes.coding, body)
            if small is not None:
                head += b"Content-Encoding: %b\r\nVary: Accept-Encoding\r\n" % self.notes.coding
                body = small
        self.downstream.answer(head, body)

    def _answer_result(self, result: bytes) -> int:
        """Answer with a kept result; return the answer's bytes."""
        if self._shape is not None:
            result = self._shape(result) or result
        body = messages.result_body(self.message_id, result)
        self._answer(replies.OK_JSON + self.limit_lines if self.limit_lines else replies.OK_JSON, body)
        return len(body)

    def _stands_in(self, status: int) -> bool:
        """What an HTTP error of the server's changes: a kept result may be answered instead of it."""
        plane, client = self.plane, self.client
        if status in (401, 403) and client is not None:
            private = self.notes.private(client)
            if private is not None:
                plane.results.purge((private.credential,))
        elif status >= 500 and self.judged:
            plane.breakers.judged(self.label, failed=True, server=False)
            if self._answer_fallback():
                self._record("failed")
                if self._ticket is not None:
                    self._ticket.cancel()
                return True
        return False

    def _answer_fallback(self) -> bool:
        """Answer with a result that is not fresh any more, where its tool's rule allows that."""
        if self._lookup is None or self._lookup.fallback is None:
            return False
        self._cache_use = "stale"
        self._answer_result(self._lookup.fallback.result)
        return True

    def _refuse(self, verdict: Verdict) -> None:
        limits = self._settings.limits
        assert limits is not None
        assert self.client is not None
        tier = limits.tier(self.client)
        self.plane.metrics.count("mcpace_limited_calls", tier, verdict.kind or "unavailable")
        assert self.message is not None
        form = self._settings.reply
        if form == "toolError" and self.message.method != "tools/call":
            form = "jsonrpc"  # only a tool's result can say so itself
        self._answer(*replies.limited(self.message_id, verdict, tier, form, self.limit_lines))
        self._record("limited")

    def _shed(self, reason: str, words: str, seconds: float) -> None:
        self.plane.metrics.count("mcpace_shed_calls", reason)
        if not self._answer_fallback():
            self._answer(*replies.shed(self.message_id, words, seconds))
        self._record("shed")

    def _reject(self, status: int, reason: str, words: str) -> None:
        self.plane.metrics.count("mcpace_bad_requests", reason)
        more = b"Allow: POST, GET, DELETE, OPTIONS\r\n" if status == 405 else b""
        self._answer(*replies.rejected(status, words, more))
        self._end()

    def answer_local(self, status: Status, body: bytes) -> None:
        """Answer a tool that is the sidecar's own."""
        self._answer(replies.OK_JSON, body)
        self._record(status, len(body))

    def _record(self, status: Status, sent: int = 0) -> None:
        """Every call ends here, once."""
        if self.judged:
            plane, label = self.plane, self.label
            if plane.breakers.known and status in ("success", "error") and self._cache_use in ("", "miss"):
                plane.breakers.judged(label, failed=False, server=False)
            if self.is_tool_call and not self._refreshing:
                client = self.client
                call = CallEnded(
                    label,
                    status,
                    monotonic() - self.started,
                    self._cache_use,
                    len(self.body),
                    sent,
                    client.name if client is not None else "",
                    client.tier if client is not None else None,
                    self._parent if self.span else self.trace[13:-2] or self.notes.trace,
                    self.span,
                )
                plane.on_call(call)
        self._end(cancelled=status == "cancelled")

    def close(self) -> None:
        """It was answered elsewhere: by its parts."""
        self._end()

    def _end(self, *, cancelled: bool = False) -> None:
        self.ended = True
        self._ticket = self._shape = self.fanout = None  # which know the exchange: no cycle stays
        if self._pair_stream is not None:
            self._pair_stream.closed()
        if self.pair is not None:
            self.pair.forget(self)
        plane = self.plane
        plane.in_flight.discard(self)
        lookup, self._lookup = self._lookup, None
        if lookup is not None:
            lookup.end(cancelled=cancelled)
        if self._seated:
            self._seated = False
            plane.bulkhead.leave()

    @property
    def patience(self) -> float:
        """Seconds that the server's answer may take to come."""
        return self._settings.patience

    @property
    def is_tool_call(self) -> bool:
        """Whether a tool is called."""
        return self.message is not None and self.message.method == "tools/call"

    @property
    def message_id(self) -> bytes:
        """The id to answer with."""
        return (self.message.id if self.message is not None else None) or b"null"
