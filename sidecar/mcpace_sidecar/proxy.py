"""The path of a call, from bytes to bytes.

    request -> route        which path, which method, from where
            -> identify     whose call it is
            -> classify     what it is
            -> admit        may it, by tier and tool
            -> look_up      is the result known: memory, then Redis
            -> forward      ask the server
            -> settle       keep the result, answer, record the call

One request is one `Exchange`. Each stage answers, goes straight on to the next, or
parks until Redis or the server has spoken. The common call parks only for the server.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from mcpace_sidecar import messages
from mcpace_sidecar.cache import policy
from mcpace_sidecar.catalog import Catalog
from mcpace_sidecar.errors import ProtocolError, UpstreamError
from mcpace_sidecar.events import CacheUse, CallEnded, Status
from mcpace_sidecar.http.head import RequestHead, ResponseHead
from mcpace_sidecar.http.server import ClientConnection, status_line
from mcpace_sidecar.identity import Client
from mcpace_sidecar.limits.bucket import Verdict
from mcpace_sidecar.messages import Message, MessageError
from mcpace_sidecar.metrics import Metrics
from mcpace_sidecar.notes import Notes
from mcpace_sidecar.settings import Settings
from mcpace_sidecar.stats import Stats
from mcpace_sidecar.store import LimitStore, ResultStore
from mcpace_sidecar.upstream import MAX_WHOLE, Pool, UpstreamConnection, Waiting

LIMITED: Final = 42900
"""The JSON-RPC code of a refused call: outside the ranges that the specifications reserve.
The sidecar's other codes are HTTP's, times a hundred, too."""

_JSON: Final = b"Content-Type: application/json\r\n"
_OK_JSON: Final = status_line(200) + _JSON
_ENDLESS: Final = frozenset({"subscriptions/listen"})

T = TypeVar("T")


class Proxy:
    """Everything that exchanges share. `loopback`: only local pages may call."""

    def __init__(
        self, settings: Settings, pool: Pool, limits: LimitStore, results: ResultStore, metrics: Metrics,
        stats: Stats, catalog: Catalog, *, loopback: bool,
    ) -> None:  # fmt: skip
        self.settings = settings
        self.pool = pool
        self.limits = limits
        self.results = results
        self.metrics = metrics
        self.stats = stats
        self.catalog = catalog
        self.loopback = loopback
        self.draining = False
        self.on_upstream_down: Callable[[], None] = lambda: None
        self.in_flight: set[Exchange] = set()
        self.adopt(settings)

    def adopt(self, settings: Settings) -> None:
        """Use these settings from the next call on."""
        self.settings = settings
        self.max_request_bytes = settings.max_request_bytes
        self.pool.max_connections = settings.max_connections
        self.pool.idle_timeout = settings.idle_timeout
        self.pool.connect_timeout = settings.connect_timeout
        self.catalog.configured = settings.tool_names

    def on_request(self, connection: ClientConnection, head: RequestHead, body: bytes) -> Exchange | None:
        """Answer a request, or return the exchange that will."""
        notes = head.notes
        if notes is None or notes.settings is not self.settings:
            notes = head.notes = Notes(self.settings, self.pool.address, head, loopback=self.loopback)
        exchange = Exchange(self, connection, head, notes, body)
        exchange.route()
        if exchange.ended:
            return None
        self.in_flight.add(exchange)
        return exchange

    def on_bad_request(self, error: ProtocolError) -> tuple[bytes, bytes]:
        """Count what is no HTTP, and say so."""
        self.metrics.count("mcpace_bad_requests", error.reason)
        return _JSON, messages.error_body(b"null", messages.INVALID_REQUEST, str(error))


class Exchange:
    """One request and its answer."""

    # Defaults of the class, not set for each instance: most of them stay so.
    _client: Client | None = None
    _message: Message | None = None
    _rule: policy.Rule | None = None
    _key: bytes | None = None
    _cache_use: CacheUse = ""
    _admitted = False
    _retried = False
    _ticket: UpstreamConnection | Waiting | None = None
    _parked: asyncio.Task[None] | None = None
    _streaming: ResponseHead | None = None
    _tap: list[bytes] | None = None
    _tapped = 0
    ended = False

    def __init__(
        self,
        proxy: Proxy,
        connection: ClientConnection,
        head: RequestHead,
        notes: Notes,
        body: bytes,
    ) -> None:
        self._proxy = proxy
        self._settings: Settings = notes.settings
        self._connection = connection
        self._head = head
        self._notes = notes
        self._body = body
        self._started = time.perf_counter()

    # -- the stages, in order

    def route(self) -> None:
        """Which path, which method, from where."""
        if self._notes.refusal is not None:
            status, reason, words = self._notes.refusal
            self._reject(status, reason, words)
        elif self._notes.route == "open":
            self.forward()
        else:
            self.identify()

    def identify(self) -> None:
        """Whose call it is."""
        caller = self._notes.caller or self._settings.identities.by_address(self._connection.peer)
        self._client = caller.client
        if caller.client is None:
            self._proxy.metrics.count("mcpace_unauthorized_requests")
            head = status_line(401) + b'WWW-Authenticate: Bearer realm="mcp"\r\n' + _JSON
            self._connection.answer(head, messages.error_body(b"null", 40100, caller.words))
            self._end()
        elif self._notes.route == "mcp" and self._head.method == b"POST":
            self.classify()
        else:
            self.forward()

    def classify(self) -> None:
        """What the message is."""
        if not self._notes.is_json:
            self._reject(415, "content_type", "Send Content-Type: application/json.")
            return
        try:
            message = messages.classify(self._body)
            self._message = message
            if message.counted:
                self._find_key(message)
        except MessageError as error:
            reason = "json" if error.code == messages.PARSE_ERROR else "message"
            self._proxy.metrics.count("mcpace_bad_requests", reason)
            body = messages.error_body(error.message_id, error.code, str(error))
            self._connection.answer(status_line(400) + _JSON, body)
            self._end()
            return
        if not message.counted or self._settings.limits is None:
            self._admitted = True
        if self._admitted or not self._settings.count_cache_hits:
            self.look_up()
        else:
            self.admit()

    def _find_key(self, message: Message) -> None:
        cache = self._settings.cache
        rule = cache.rule(message) if cache is not None else None
        if cache is None or rule is None or self._proxy.catalog.forbids_caching(message.target or ""):
            return
        private: tuple[bytes, ...] = ()
        if not rule.shared:
            assert self._client is not None
            private = self._notes.credentials
            if self._client.anonymous and not private:
                return  # nobody to keep it for
            session = b"" if self._notes.version >= messages.MODERN else self._notes.session
            private = (b"private", self._client.name.encode(), session, *private)
        self._key = cache.key(self._notes.version, message, private)
        self._rule = rule if self._key is not None else None

    def admit(self) -> None:
        """May it, by tier and tool."""
        limits, message, client = self._settings.limits, self._message, self._client
        assert limits is not None
        assert message is not None
        assert client is not None
        tool = message.target if message.method == "tools/call" else ""
        verdict = self._proxy.limits.take(limits.charges(client, tool or ""))
        if isinstance(verdict, Verdict):
            self._judged(verdict)
        else:
            self._park(verdict, self._judged)

    def _judged(self, verdict: Verdict) -> None:
        if not verdict.allowed:
            self._refuse(verdict)
            return
        self._admitted = True
        if self._cache_use:
            self.forward()
        else:
            self.look_up()

    def look_up(self) -> None:
        """Is the result known: memory, then Redis."""
        key = self._key
        if key is None:
            self._missed()
            return
        result = self._proxy.results.near(key)
        if result is not None:
            self._answer_kept(result, "memory")
        elif self._proxy.results.shared:
            self._park(self._proxy.results.far(key), self._looked_far)
        else:
            self._looked_far(None)

    def _looked_far(self, result: bytes | None) -> None:
        if result is not None:
            self._answer_kept(result, "redis")
        else:
            self._cache_use = "miss"
            self._missed()

    def _missed(self) -> None:
        if self._admitted:
            self.forward()
        else:
            self._cache_use = self._cache_use or "miss"
            self.admit()

    def forward(self) -> None:
        """Ask the server."""
        body = self._body
        has_body = body or self._head.length or self._head.method == b"POST"
        framing = b"Content-Length: %d\r\n\r\n" % len(body) if has_body else b"\r\n"
        endless = self._head.method == b"GET" or (
            self._message is not None and self._message.method in _ENDLESS
        )
        patience = None if endless else self._settings.patience
        self._ticket = self._proxy.pool.request(self._notes.onward + framing + body, self, patience)

    # -- what the server says (upstream.Receiver)

    def on_answer(self, head: ResponseHead, body: bytes) -> None:
        """The whole answer: keep it, pass it on, record it."""
        if self.ended:
            return
        ok = head.status == 200 and messages.succeeded(body)
        if ok and self._key is not None:
            outcome = (
                messages.read_events(body)
                if head.content_type == b"text/event-stream"
                else messages.read_answer(body)
            )
            self._keep(outcome.result)
        if body or head.status not in (204, 304):
            self._connection.answer(head.onward, body)
        else:
            self._connection.answer_empty(head.onward)
        self._record("success" if ok else "error")

    def on_head(self, head: ResponseHead) -> None:
        """A streamed answer begins."""
        self._streaming = head
        counted = self._message is not None and self._message.counted
        if counted and head.status == 200 and head.get(b"content-encoding") is None:
            self._tap = []
        self._connection.start(head.onward, head.length)

    def on_piece(self, piece: bytes) -> None:
        """Pass it on; remember a bounded part, to see how the call ended."""
        self._connection.send(piece)
        if self._tap is not None:
            self._tapped += len(piece)
            if self._tapped > MAX_WHOLE:
                self._tap = None
            else:
                self._tap.append(piece)

    def on_end(self) -> None:
        """A streamed answer is whole."""
        assert self._streaming is not None
        ok = self._streaming.status == 200
        if self._tap is not None:
            stream = b"".join(self._tap)
            events = self._streaming.content_type == b"text/event-stream"
            outcome = messages.read_events(stream) if events else messages.read_answer(stream)
            ok = outcome.ok
            self._keep(outcome.result)
        self._connection.finish()
        self._record("success" if ok else "error")

    def on_failure(self, error: UpstreamError) -> None:
        """No answer, or a part of one."""
        if self.ended:
            return
        if error.stale and not self._retried and self._repeatable():
            self._retried = True
            self.forward()
            return
        self._proxy.metrics.count("mcpace_upstream_errors", error.reason)
        if error.reason == "connect":
            self._proxy.on_upstream_down()
        if self._streaming is not None:
            self._connection.abort()
        else:
            status = {"timeout": 504, "busy": 503}.get(error.reason, 502)
            words = messages.error_body(self._message_id(), status * 100, str(error))
            self._connection.answer(status_line(status) + _JSON, words)
        self._record("failed")

    # -- what the client does (http.server.Turn)

    def client_gone(self) -> None:
        """Nobody waits: give the call up, which tells the server of the modern era to stop."""
        if self.ended:
            return
        if self._ticket is not None:
            self._ticket.cancel()
        if self._parked is not None:
            self._parked.cancel()
        self._record("cancelled")

    def client_paused(self, paused: bool) -> None:
        """Read from the server only as fast as the client reads from us."""
        if self._ticket is not None:
            self._ticket.pause(paused)

    @property
    def endless(self) -> bool:
        """Whether it would never end by itself: an open event stream."""
        return self._streaming is not None and (self._message is None or not self._message.counted)

    def close_stream(self) -> None:
        """End an open event stream in order, because the sidecar ends."""
        if self._ticket is not None:
            self._ticket.cancel()
        self._connection.finish()
        self._end()

    # -- endings

    def _answer_kept(self, result: bytes, where: CacheUse) -> None:
        self._cache_use = where
        self._connection.answer(_OK_JSON, messages.result_body(self._message_id(), result))
        self._record("success")

    def _refuse(self, verdict: Verdict) -> None:
        limits, client = self._settings.limits, self._client
        assert limits is not None
        assert client is not None
        tier = limits.tier(client)
        retry_ms = max(1, math.ceil(verdict.retry_after * 1000))
        self._proxy.metrics.count("mcpace_limited_calls", tier, verdict.kind or "unavailable")
        data: dict[str, Any] = {"retryAfterMs": retry_ms, "tier": tier, "limit": verdict.kind}
        words = "Limits cannot be checked now: retry shortly."
        if verdict.kind is not None:
            which, when = _LIMIT_WORDS[verdict.kind], _wait(retry_ms)
            words = f"Rate limit exceeded ({which}, tier {tier}): retry in {when}."
        head = _OK_JSON + b"Retry-After: %d\r\n" % math.ceil(retry_ms / 1000)
        self._connection.answer(head, messages.error_body(self._message_id(), LIMITED, words, data))
        self._record("limited")

    def _reject(self, status: int, reason: str, words: str) -> None:
        self._proxy.metrics.count("mcpace_bad_requests", reason)
        head = status_line(status) + (b"Allow: POST, GET, DELETE, OPTIONS\r\n" if status == 405 else b"")
        self._connection.answer(head + _JSON, messages.error_body(b"null", status * 100, words))
        self._end()

    def _keep(self, result: bytes) -> None:
        if result and self._key is not None and self._rule is not None:
            self._proxy.results.keep(self._key, result, self._rule.ttl)

    def _record(self, status: Status) -> None:
        """Every call ends here, once."""
        message = self._message
        if message is not None and message.method == "tools/call" and message.counted:
            call = CallEnded(
                self._proxy.catalog.label(message.target or ""),
                status,
                time.perf_counter() - self._started,
                self._cache_use,
            )
            self._proxy.metrics.on_call(call)
            self._proxy.stats.on_call(call)
        self._end()

    def _end(self) -> None:
        self.ended = True
        self._ticket = None
        self._proxy.in_flight.discard(self)

    def _message_id(self) -> bytes:
        return (self._message.id if self._message is not None else None) or b"null"

    def _repeatable(self) -> bool:
        if self._message is None:
            return self._head.method == b"GET"
        return self._message.method in messages.SAFE or self._rule is not None

    def _park(self, answer: Awaitable[T], go_on: Callable[[T], None]) -> None:
        """Wait for Redis, then go on; the client may leave meanwhile."""

        async def resume() -> None:
            value = await answer
            self._parked = None
            if not self.ended:
                go_on(value)

        self._parked = asyncio.get_running_loop().create_task(resume())


_LIMIT_WORDS: Final = {
    "minute": "calls per minute",
    "day": "calls per day",
    "tool": "calls of this tool per minute",
}


def _wait(milliseconds: int) -> str:
    seconds = milliseconds / 1000
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
