"""What is known of one call, as far as it has come: head and body, whose it is, and what follows. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mcpace_sidecar.cache.policy import Private, digest, variant
from mcpace_sidecar.call import stages
from mcpace_sidecar.call.awaited import OpenStream
from mcpace_sidecar.call.context import Context
from mcpace_sidecar.call.policies import Policy
from mcpace_sidecar.clock import monotonic
from mcpace_sidecar.http.gathering import HEAD_COST
from mcpace_sidecar.http.head import RequestHead
from mcpace_sidecar.identity.callers import Via
from mcpace_sidecar.identity.client import Client
from mcpace_sidecar.mcp import methods
from mcpace_sidecar.mcp.request import Message
from mcpace_sidecar.sessions.event_ids import Place
from mcpace_sidecar.telemetry.events import CacheUse, CallEnded, Status

if TYPE_CHECKING:
    from mcpace_sidecar.telemetry.spans import Spans

EVENT_STREAM: Final = b"text/event-stream"
_LONG: Final = 64 * 1024
"""Bytes of a body that is not held by a call whose client is gone."""
_WAITING: Final = 2048
"""Bytes of a call that waits, beside its head."""


class Call:
    """One call."""

    # Defaults of the class, not set for each instance: most of them stay so.
    stage = stages.ROUTE
    refreshing = False
    """Whether it fetches a result anew, for nobody who waits: nothing of it is counted."""
    client: Client | None = None
    message: Message | None = None
    policy: Policy | None = None
    label = ""
    """The name under which limits, slots, breakers and metrics know it; empty: it is not counted."""
    cache_use: CacheUse = ""
    mirrors = b""
    """The header lines that mirror its body, of a part whose head is shared by others."""
    after: Place | None = None
    """Up to where its client has heard the stream of which it asks for the rest."""
    answers: Message | None = None
    """What the stream answers of which it asks for the rest, as far as that is known."""
    received = 0
    """Bytes of its body, where that is held no more."""
    elsewhere: tuple[str, bytes] | None = None
    """Where the replica listens that holds the stream of 2024-11-05 it was posted to, and whose that is."""
    opened = b""
    """Where that was opened, which is not where its messages are posted."""
    _span = b""
    """The `traceparent` of its own span, where traces are made."""
    _parent = b""
    """The `traceparent` it came with, where its own span has taken that one's place."""

    def __init__(
        self, context: Context, via: Via, head: RequestHead, body: bytes, trace: bytes, lines: bytes
    ) -> None:
        """`trace`: the line of the request's `traceparent`, where its head is held without it.

        `via`, `lines`: the way here, as it is of a part of another call, or of a refresh, too; the header
        lines that the head is held without, and those of the way here.
        """
        self.context = context
        self.via = via
        self.head = head
        self.body = body
        self.trace = trace
        self.lines = lines
        self.started = monotonic()
        self.pair: OpenStream | None = None
        """The stream of 2024-11-05 that its answer goes to."""

    def forget_body(self) -> None:
        """Hold no long body: nobody sends it again, and its client's connection counted it."""
        if len(self.body) > _LONG:
            self.received, self.body = len(self.body), b""
            if self.message is not None:
                self.message.forget()

    @property
    def ended(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.stage >= stages.END

    @property
    def message_id(self) -> bytes:
        """The id to answer with."""
        return (self.message.id if self.message is not None else None) or b"null"

    @property
    def is_tool_call(self) -> bool:
        """Whether a tool is called."""
        return self.message is not None and self.message.method == methods.TOOLS_CALL

    @property
    def survivable(self) -> bool:
        """Whether an error in place of the result ends only this call, and nobody's session."""
        method = self.message.method if self.message is not None else None
        return method is not None and method not in methods.UNSURVIVABLE

    @property
    def lasts(self) -> bool:
        """Whether what answers it may stay open for as long as its client wants."""
        message, route = self.message, self.context.route
        if message is not None or self.head.method != b"GET":
            return message is not None and message.method in methods.ENDLESS
        return route == "mcp" or (route == "passed" and EVENT_STREAM in (self.head.get(b"accept") or b""))

    @property
    def repeatable(self) -> bool:
        """Whether the server may be asked twice."""
        if self.message is None:
            return self.head.method == b"GET"
        cached = self.policy is not None and self.policy.cache is not None
        return self.message.method in methods.SAFE or cached

    @property
    def variant(self) -> bytes:
        """What tells apart the answers even of those who share them."""
        context, public = self.context, self.via.public
        if not self.opened and not public:
            return context.variant
        return variant(context.version, self.opened or self.head.target, context.public, public)

    @property
    def private(self) -> Private | None:
        """What tells its user's results from all others'; None: nothing does."""
        assert self.client is not None
        return self.context.private(self.client, self.via.named)

    @property
    def who(self) -> bytes:
        """What tells apart those whose pages and conversations are their own."""
        assert self.client is not None
        private = self.private
        return private.who if private is not None else self.client.name.encode()

    @property
    def weight(self) -> int:
        """Bytes that it takes to wait without a connection."""
        return _WAITING + HEAD_COST * (len(self.context.onward) + len(self.lines))

    @property
    def whom(self) -> bytes:
        """Whom the server asks when it asks something in the midst of this call."""
        return self.context.session or (self.client.name.encode() if self.client is not None else b"")

    def conversation(self, state: str) -> bytes:
        """What tells the conversation that goes on with this state from all others."""
        message = self.message
        assert message is not None
        what = (message.method or "").encode(), (message.target or "").encode()
        return digest((self.who, *what, state.encode()))

    def begin_span(self, spans: Spans, message: Message) -> None:
        """Put the call's own span into its trace, in the header and in `_meta`, wherever it came."""
        told = message.trace
        self._parent = self.trace[13:-2] or self.context.trace or told
        self._span = spans.begin(self._parent)
        if not self.context.trace:  # an odd one passes as it is
            self.trace = b"traceparent: " + self._span + b"\r\n"
        at = message.trace_at if len(told) == len(self._span) else -1
        if at >= 0:  # as long as before: the framing stays
            self.body = self.body[:at] + self._span + self.body[at + len(told) :]

    def record(self, status: Status, seconds: float, received: int, sent: int) -> CallEnded:
        """What is told of it when it has ended."""
        client = self.client
        return CallEnded(
            self.label,
            status,
            seconds,
            self.cache_use,
            received,
            sent,
            client.name if client is not None else "",
            self.context.settings.tier(client) if client is not None else None,
            self._parent if self._span else self.trace[13:-2] or self.context.trace,
            self._span,
        )

    def __repr__(self) -> str:
        return f"{self.label or 'uncounted'} {stages.WORDS[self.stage]}, {monotonic() - self.started:.1f} s"
