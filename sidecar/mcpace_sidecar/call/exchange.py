"""The path of a call, from bytes to bytes.

    request -> route        which path, which method, from where
            -> identify     whose call it is
            -> classify     what it is
            -> admit        may it, by tier and target
            -> look_up      is the result known: memory, a call in flight, Redis
            -> enter        is there room: circuit breaker, slots
            -> forward      ask the server
            -> take         keep the result, cut it into pages
            -> settle       answer, say how it went, and let go of all that was held

One message is one `Exchange`. Each stage answers, goes straight on to the next, or parks
until Redis, another call, a slot or the server has spoken. The common call parks only for
the server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from mcpace_sidecar.cache.entry import Entry
from mcpace_sidecar.cache.lookup import Lookup
from mcpace_sidecar.cache.policy import Rule, digest, life
from mcpace_sidecar.call import fanout, refusals, rewrite
from mcpace_sidecar.call.call import Call
from mcpace_sidecar.call.context import Context
from mcpace_sidecar.call.legacy_sse import PairStream, Posted
from mcpace_sidecar.call.policies import PARALLEL
from mcpace_sidecar.call.refusals import Refusal
from mcpace_sidecar.call.streaming import EVENT_STREAM, Streamed
from mcpace_sidecar.errors import UpstreamError
from mcpace_sidecar.http.downstream import Downstream, length_line
from mcpace_sidecar.http.gathering import HEAD_COST
from mcpace_sidecar.http.head import ResponseHead
from mcpace_sidecar.http.server import ClientConnection
from mcpace_sidecar.identity.client import Caller
from mcpace_sidecar.limits.bucket import Verdict
from mcpace_sidecar.mcp import answers, ids, methods, request, responses
from mcpace_sidecar.mcp.answers import Outcome
from mcpace_sidecar.mcp.request import Message
from mcpace_sidecar.mcp.strictness import MessageError
from mcpace_sidecar.telemetry.events import CacheUse, Status

if TYPE_CHECKING:
    from mcpace_sidecar.telemetry.spans import Spans

_LEADING: Final = frozenset({201, 301, 302, 303, 307, 308})
"""The statuses whose answers name another place (RFC 9110, section 10.2.2)."""


_AWAITING: Final = 2048
"""Bytes of a call that waits for the stream of 2024-11-05, beside its head."""
LOST_AFTER: Final = 3.0
"""Seconds after which a call that waits for nothing known is given up."""


class Exchange(Call):
    """One message on its way."""

    # -- the stages, in order

    def start(self) -> None:
        """Begin."""
        try:
            self.route()
        except Exception as error:  # noqa: BLE001 - because whatever it is, it is this call's end alone
            self.broke("request", error)

    def begin_part(self) -> None:
        """Begin as a part of another exchange, which is identified."""
        try:
            self.classify()
        except Exception as error:  # noqa: BLE001 - because of the same
            self.broke("parts", error)

    def route(self) -> None:
        """Which path, which method, from where."""
        refusal = self.context.refusal
        if refusal is not None:
            self.refuse(refusal)
        elif self.via is not None and self.via.refusal:
            self.refuse(Refusal(refusals.HEADER, self.via.refusal))
        elif self.context.own is not None:
            head, body = self.context.own
            self.settle("success", head, body or None)
        elif self.context.route == "open":
            if self.context.health:
                head, body = self.plane.health()
                self.settle("success", head, body if self.head.method == b"GET" else None)
            else:
                self.forward()
        elif self.context.route == "pair" and not self._find_pair():
            words = "No stream of this sidecar's has this endpoint: open one first."
            self.refuse(Refusal(refusals.PATH, words))
        else:
            self.identify()

    def refused(self) -> bool:
        """Refuse by its head alone what is refused whatever its body is; whether it was."""
        context, via = self.context, self.via
        assert via is not None
        if context.refusal is not None:
            self.refuse(context.refusal)
        elif via.refusal:
            self.refuse(Refusal(refusals.HEADER, via.refusal))
        elif context.route != "open" and not context.token:
            caller = context.caller or via.caller
            if caller.client is None:
                self._identified(caller)
        return self.ended

    def _find_pair(self) -> bool:
        self.pair = self.plane.pairs.get(self.head.target)
        if self.pair is not None:
            self.downstream = Posted(self.pair, self.downstream)
        return self.pair is not None

    def identify(self) -> None:
        """Whose call it is."""
        context = self.context
        caller = context.caller
        if caller is None:
            identities = self._settings.identities
            if context.token and identities.tokens is not None:
                caller = identities.tokens.known(context.token)
                if caller is None:
                    self._park(identities.tokens.judge(context.token), self._identified)
                    return
            else:
                assert self.via is not None
                caller = self.via.caller
        self._identified(caller)

    def _identified(self, caller: Caller) -> None:
        self.client = caller.client
        if caller.client is None:
            resource = self.context.resource(self.head) if caller.status == 401 else None
            more = resource.challenge() if resource is not None else b""
            self.refuse(refusals.unauthorized(caller.words, caller.status, more))
        elif self.context.route in ("mcp", "pair") and self.head.method == b"POST":
            self.classify()
        else:
            self.forward()

    def classify(self) -> None:
        """What the message is, and what is done about such a message."""
        try:
            if self.context.may_batch and request.is_batch(self.body):
                fanout.batch(self)
                return
            message = request.classify(self.body)
            if self.pair is not None and message.id:
                self.pair.claim(self, message.id)
                if not self._hold_awaiting():
                    return
            self.message = message
            policy = self._policy = self._settings.policies.of(message)
            if message.target is not None:
                self.judged = True
                self.label = self.plane.label(message)
                if self._settings.spans is not None:
                    self._begin_span(self._settings.spans, message)
            if policy.cache is not None:
                self._find_places(message, policy.cache)
        except MessageError as error:
            self.judged = False  # it is nobody's call
            self.refuse(refusals.of_message(error, b"" if self.message is not None else error.message_id))
            return
        if self.plane.offers:
            if message.method == methods.TOOLS_CALL and self._is_ours(message):
                return
            self._shape = rewrite.of(self, message, policy)
        self.reads = self._shape is not None or policy.cache is not None
        if message.target is None or self._settings.limits is None:
            self._admitted = True
        elif message.state:
            rounds = self.plane.conversations.continues(self._conversation(message.state), self._continued)
            if rounds is not None:
                self._go_on(rounds)
            return
        self._go_on(0)

    def _continued(self, rounds: int) -> None:
        if self.ended:
            return
        try:
            self._go_on(rounds)
        except Exception as error:  # noqa: BLE001 - because of the same
            self.broke("conversation", error)

    def _go_on(self, rounds: int) -> None:
        """`rounds`: how often the server had asked when it goes on, where it does."""
        if rounds:
            self._rounds = rounds
            self._admitted = True
        if self._admitted or not self._settings.count_cache_hits:
            self.look_up()
        else:
            self.admit()

    def _hold_awaiting(self) -> bool:
        """Hold what it takes to wait for the stream, when its connection is free again; False: no room."""
        size = _AWAITING + HEAD_COST * (len(self.context.onward) + len(self.lines))
        if self.plane.connections.keep(size):
            self.awaiting = size
            return True
        self.refuse(Refusal(refusals.AWAITING, "Too many calls wait for their responses."))
        return False

    def _is_ours(self, message: Message) -> bool:
        """Answer the tools that the sidecar itself offers."""
        plane = self.plane

        def answer(result: bytes | None, words: str) -> None:
            if result is not None:
                self.settle("success", refusals.OK_JSON, responses.result_body(self.message_id, result))
            else:
                self.settle("error", refusals.OK_JSON, refusals.tool_error(self.message_id, words))

        if message.target == PARALLEL and plane.offers_parallel:
            if words := fanout.parallel(self):
                answer(None, words)
            return True
        if self._settings.paging and message.target == plane.next_page_name:
            rewrite.next_page(self, answer)
            return True
        return False

    def _begin_span(self, spans: Spans, message: Message) -> None:
        """Put the call's own span into its trace, in the header and in `_meta`, wherever it came."""
        told = message.trace
        self._parent = self.trace[13:-2] or self.context.trace or told
        self.span = spans.begin(self._parent)
        if not self.context.trace:  # an odd one passes as it is
            self.trace = b"traceparent: " + self.span + b"\r\n"
        at = message.trace_at if len(told) == len(self.span) else -1
        if at >= 0:  # as long as before: the framing stays
            self.body = self.body[:at] + self.span + self.body[at + len(told) :]

    def _find_places(self, message: Message, rule: Rule) -> None:
        plane, session = self.plane, self.context.session
        if session and session not in plane.sessions:
            self._bypass(rule, "session")  # a hit would hide from the client that its session has ended
            return
        if rule.hinted:
            if rule.ttl == 0 and message.method not in plane.hinting:
                return  # the server has not said that this may be kept
        elif plane.catalog.forbids_caching(message.target or ""):
            self._bypass(rule, "writes")
            return
        private = self.private
        if private is None and not rule.shared:
            self._bypass(rule, "anonymous")
        self._places = self._settings.keys.places(rule, self.variant, message, private)

    def _bypass(self, rule: Rule, reason: str) -> None:
        """Count a call of a cached tool that is not looked up."""
        if not rule.hinted:
            self.plane.metrics.count("mcpace_cache_bypassed", self.label, reason)

    def admit(self) -> None:
        """May it, by tier and target."""
        limits, policy = self._settings.limits, self._policy
        assert limits is not None
        assert policy is not None
        assert self.client is not None
        charges = self._charges = limits.charges(self.client, policy.price)
        verdict = self.plane.limits.take(charges, self._judged)
        if verdict is not None:
            self._heed_verdict(verdict)

    def _judged(self, verdict: Verdict) -> None:
        if self.ended:
            return
        try:
            self._heed_verdict(verdict)
        except Exception as error:  # noqa: BLE001 - because of the same
            self.broke("limits", error)

    def _heed_verdict(self, verdict: Verdict) -> None:
        if verdict.left is not None and self._charges is not None:
            self.limit_lines = self._charges.lines(verdict.left, verdict.at)
        if not verdict.allowed:
            limits = self._settings.limits
            assert limits is not None
            assert self.client is not None
            self.refuse(refusals.limited(verdict, limits.tier(self.client), self.limit_lines))
            return
        self._admitted = True
        if self._cache_use:  # looked up before it was counted
            self.enter()
        else:
            self.look_up()

    def look_up(self) -> None:
        """Is the result known: in memory, by an identical call in flight, in Redis."""
        if not self._places:
            self.missed()
            return
        self._cache_use = "miss"
        results = self.plane.results
        if not self._refreshing:  # most results are fresh and near: no Lookup is made for them
            for place in self._places:
                entry = results.near(place.key)
                if entry is not None and entry.fresh_until > self.started:
                    self.found(entry, "memory")
                    return
        rule = self._policy.cache if self._policy is not None else None
        assert rule is not None
        plane = self.plane
        self._lookup = Lookup(
            self, plane.results, plane.flights, rule, self._places, refreshing=self._refreshing
        )
        self._lookup.start()

    def found(self, entry: Entry | None, where: CacheUse) -> None:
        """A kept result answers the call; to a refresh it says that another has fetched it."""
        if entry is None or self._refreshing:
            self.settle("success")
            return
        self._cache_use = where
        self._give("success", entry)

    def renew(self) -> None:
        """Fetch a new result behind the back of a client that was answered with an old one."""
        self.plane.refresh(self)

    def missed(self) -> None:
        """No kept result does."""
        if self._admitted:
            self.enter()
        else:
            self.admit()

    def enter(self) -> None:
        """Is there room: circuit breaker, slots."""
        if not self.judged:
            message = self.message
            if message is not None and message.method is None and message.id is not None:
                self.plane.questions.answered(self._whom, message.id)
            self.forward()
            return
        plane = self.plane
        if plane.breakers.known:
            wait = plane.breakers.wait(self.label)
            if wait:
                words = "The server keeps failing and is left alone for a while."
                self.refuse(Refusal(refusals.BREAKER, words, seconds=wait))
                return
            self._tried = True
        self.deadline = self.started + self._settings.patience
        seated = plane.bulkhead.enter(self)
        if seated:
            self._seated = True
            self.forward()
        elif seated is None:
            self.refuse(Refusal(refusals.QUEUE, "The server is busy and the queue is full."))
        else:
            self._queued = True

    def seated(self, left: float) -> None:
        """A slot has come free."""
        self._queued = False
        self._seated = True
        try:
            self.forward(left)
        except Exception as error:  # noqa: BLE001 - because of the same
            self.broke("seat", error)

    def overdue(self) -> None:
        """No slot came free in time."""
        self._queued = False
        try:
            self.refuse(Refusal(refusals.OVERDUE, "The server is busy: no slot came free in time."))
        except Exception as error:  # noqa: BLE001 - because of the same
            self.broke("overdue", error)

    def forward(self, left: float | None = None) -> None:
        """Ask the server. `left`: seconds it may take, where some have passed already."""
        body, message = self.body, self.message
        has_body = body or self.head.length or self.head.method == b"POST"
        framing = self.mirrors + (length_line(len(body)) if has_body else b"\r\n")
        patience = None if self._lasts else left or self._settings.patience
        if patience is None:
            if self.plane.draining:  # it would keep the sidecar from ending
                self.close_stream()
                return
            self._join_audience()
        if self.pair is not None and message is not None and message.id:
            self.pair.expect(self)
        self.forwarded = True
        self._ticket = self.plane.pool.request(
            (self.context.onward, self.lines, self.trace, framing, body), self, patience
        )

    def _join_audience(self) -> None:
        self.listening = True
        for other in self.plane.audience.enter(self, self.client.name if self.client is not None else ""):
            self.plane.metrics.count("mcpace_shed_connections", "streams")
            other.close_stream()

    # -- what the server says (http.client.Receiver)

    def on_answer(self, head: ResponseHead, body: bytes) -> None:
        """The whole answer."""
        if self._ticket is not None:
            self._served, self._ticket = self._ticket, None
        if self.ended:
            return
        try:
            self.take_answer(head, body)
        except Exception as error:  # noqa: BLE001 - because of the same
            self.broke("answer", error)

    def take_answer(self, head: ResponseHead, body: bytes) -> None:
        """Read the server's whole answer, and give it."""
        ok = head.status == 200
        events = head.content_type == EVENT_STREAM
        if self._accepts(head, body):
            return
        if self.context.session:
            self.plane.sessions.heard(self.context.session, self.head.method, head.status)
        if head.plain and self.is_stray(body, events=events, refused=not ok):
            self.strayed()
            return
        if not ok:
            if self._heed(head.status):
                return
        elif not head.plain:
            pass  # compressed by the server: what it says is not read
        elif self.reads:
            outcome = answers.read_events(body) if events else answers.read_answer(body)
            ok = outcome.ok
            shaped = self.take(outcome)
            if shaped is not None:
                body = rewrite.replaced(body, shaped, events=events)
        elif self.judged and not self._plain:
            ok = answers.succeeded(body)
            if self.context.modern and self._settings.limits is not None and b'"requestState"' in body:
                self.take(answers.read_events(body) if events else answers.read_answer(body))
        lines = head.onward + self.limit_lines if self.limit_lines else head.onward
        if head.status in _LEADING:
            lines = self.plane.here(lines)
        status: Status = "failed" if head.status >= 500 else "success" if ok else "error"
        if body or head.status not in (204, 304):
            readable = head.plain and head.content_type != EVENT_STREAM
            self.settle(status, lines, body, compressible=readable)
        else:
            self.settle(status, lines, None)

    def on_head(self, head: ResponseHead) -> None:
        """A streamed answer begins."""
        if self.ended:
            return
        try:
            self._take_head(head)
        except Exception as error:  # noqa: BLE001 - because of the same
            self.broke("head", error)

    def _accepts(self, head: ResponseHead, body: bytes | None = None) -> bool:
        """Whether the server has only accepted a message of 2024-11-05: the stream brings its response.

        By 202, as the specification has it, or by another success that is not the response itself.
        """
        message, status = self.message, head.status
        if self.pair is None or message is None or not message.id or not 200 <= status < 300:
            return False
        if status != 202 and (body is None or answers.holds_response(body)):
            return False
        if isinstance(self.downstream, Posted):
            self.downstream.accept()
        self.accepted = len(self.body)
        self.body = b""  # it may be long until the stream brings the response
        message.forget()
        return True

    def _take_head(self, head: ResponseHead) -> None:
        if self._accepts(head):
            return  # whatever stands in its body
        if self.context.session:
            self.plane.sessions.heard(self.context.session, self.head.method, head.status)
        if head.status != 200 and self._heed(head.status):
            return
        pair = self._settings.pair and self.head.method == b"GET" and head.content_type == EVENT_STREAM
        if pair:
            self._pair_stream = PairStream(self, head)
        else:
            self._streamed = Streamed(self, head)

    def on_piece(self, piece: bytes) -> None:
        """Its next bytes."""
        if self.ended:
            return
        try:
            if self.listening:
                self.plane.audience.heard(self)
            if self._streamed is not None:
                self._streamed.piece(piece)
            elif self._pair_stream is not None:
                self._pair_stream.piece(piece)
        except Exception as error:  # noqa: BLE001 - because of the same
            self.broke("piece", error)

    def on_end(self) -> None:
        """A streamed answer is whole."""
        self._served, self._ticket = self._ticket, None
        if self.ended:
            return
        try:
            if self._streamed is not None:
                self._streamed.end()
            elif self._pair_stream is not None:
                self.settle("success")
        except Exception as error:  # noqa: BLE001 - because of the same
            self.broke("end", error)

    def answered(self, event: bytes, body: bytes) -> None:
        """The response came as an event on the stream of 2024-11-05."""
        try:
            self._take_event(event, body)
        except Exception as error:  # noqa: BLE001 - because of the same
            self.broke("pair", error)

    def _take_event(self, event: bytes, body: bytes) -> None:
        outcome = answers.read_answer(body)
        shaped = self.take(outcome) if self.reads else None
        if shaped is not None:
            body = responses.result_body(self.message_id, shaped)
        if isinstance(self.downstream, Posted):
            self.downstream.event = event
        self.settle("success" if outcome.ok else "error", refusals.OK_JSON, body)

    def passed(self) -> None:
        """The response passes on the stream of 2024-11-05 as it comes, unread."""
        try:
            if isinstance(self.downstream, Posted):
                self.downstream.accept()
            self.settle("success")
        except Exception as error:  # noqa: BLE001 - because of the same
            self.broke("pair", error)

    def on_failure(self, error: UpstreamError) -> None:
        """No answer, or a part of one."""
        if self.accepted >= 0:
            self._ticket = None  # it was accepted all the same: the stream brings its response
        else:
            self.fail(error)

    def fail(self, error: UpstreamError) -> None:
        """End without the server's answer."""
        if self.ended:
            return
        try:
            self._take_failure(error)
        except Exception as broken:  # noqa: BLE001 - because of the same
            self.broke("failure", broken)

    def _take_failure(self, error: UpstreamError) -> None:
        if error.stale and not self._retried and self._repeatable():
            self._retried = True
            self.forward()
            return
        plane, streamed = self.plane, self._streamed
        if streamed is not None and streamed.answered:
            streamed.conclude()  # that the stream was not ended harms nobody
            return
        if error.reason == "connect":
            plane.on_upstream_down()
        elif error.reason == "timeout" and self.judged and not self.context.modern:
            plane.tell_cancelled(self)
        self.refuse(Refusal(refusals.OF_SERVER[error.reason], str(error)))

    def is_stray(self, body: bytes, *, events: bool = False, refused: bool = False) -> bool:
        """Whether an answer holds the response to another request.

        An error may bear an id that nobody has asked with: what a server says who could not read it.
        `refused`: by its HTTP status, so that an error may bear any: what counts is that.
        """
        message = self.message
        if message is None or message.id is None or self._borne:
            return False
        found = answers.stray(body, message.id, events=events)
        if found is None or (refused and found.is_error):
            return False
        return self.is_anothers(found.id, is_error=found.is_error)

    def is_anothers(self, written: bytes, *, is_error: bool) -> bool:
        """Whether a response with this id, empty if it has none, is to another request."""
        message = self.message
        if message is None or message.id is None or ids.same_id(written, message.id):
            return False
        return not (is_error and (written in answers.ABSENT or not self.plane.knows(written)))

    def was_read(self, head: ResponseHead, body: bytes | None) -> bool:
        """Whether the server has read the request: it knows its id, or says that it has taken it.

        A refusal shows nothing, nor does a 200 without the response that was asked for.
        """
        message, streamed = self.message, self._streamed
        asked = message is not None and message.method is not None and message.id is not None
        if message is None or message.id is None or not asked or not head.plain:
            return head.status < 300
        if body is None and streamed is not None:
            self._borne = streamed.bears(message.id)
        elif body:
            events = head.content_type == EVENT_STREAM
            self._plain = answers.is_plain_result(body, message.id, events=events)
            self._borne = self._plain or answers.bears(body, message.id, events=events)
        return self._borne or (head.status < 300 and (head.status != 200 or self.pair is not None))

    def strayed(self) -> None:
        """End without the answer to another request, and with the connection that brought it."""
        error = UpstreamError("stray", "The server answered with the id of another request.")
        ticket, self._ticket = self._ticket or self._served, None
        if ticket is not None:
            ticket.distrust(error)
        self.fail(error)

    def _conversation(self, state: str) -> bytes:
        message = self.message
        assert message is not None
        what = (message.method or "").encode(), (message.target or "").encode()
        return digest((self.who, *what, state.encode()))

    def excuses(self) -> bool:
        """Whether the server is silent because it waits for the client."""
        return self.plane.questions.wait(self._whom, monotonic())

    def asked(self, question: bytes) -> None:
        """The server has asked the client something, and waits for that."""
        self.plane.questions.asked(self._whom, question, monotonic())

    def beat(self, now: float, every: float) -> None:
        """Say that an open stream is open, where nothing was said on it for so many seconds."""
        if not self.begun or not isinstance(self.downstream, ClientConnection) or self.downstream.is_slow:
            return
        if self._streamed is not None:
            self._streamed.beat(now, every)
        elif self._pair_stream is not None:
            self._pair_stream.beat(now, every)

    def take(self, outcome: Outcome) -> bytes | None:
        """Keep a result where its rule says so; return it in another shape, or None: as it is."""
        if not outcome.complete:
            if outcome.state and self._settings.limits is not None:
                self.plane.conversations.asked(self._conversation(outcome.state), self._rounds)
            return None
        message, policy = self.message, self._policy
        assert message is not None
        assert policy is not None
        if message.method == methods.TOOLS_LIST:
            self.plane.catalog.overhear(outcome.result)
        rule = policy.cache
        if rule is not None:
            ttl, shareable = life(rule, outcome.result)
            if rule.hinted:
                self.plane.learn_hint(message, ttl)
            if self._lookup is not None:
                self._lookup.keep(outcome.result, ttl, shareable=shareable)
        return self._shape(outcome.result) if self._shape is not None else None

    # -- what the client does (http.server.Turn)

    def client_gone(self) -> None:
        """Its client waits no more: give the call up, which tells the server of the modern era to stop.

        It goes on for others who wait for its result: whoever leaves costs them nothing.
        """
        streamed = self._streamed
        try:
            if streamed is not None and streamed.outcome is not None:
                streamed.conclude()  # it did not wait for the end of the stream
            elif self._is_awaited and self.pair is None:
                self.deserted = True
            else:
                self.settle("cancelled")
        except Exception as error:  # noqa: BLE001 - because of the same
            self.broke("client", error)

    def stranded(self) -> None:
        """The stream of 2024-11-05 that would have brought its answer has ended."""
        words = "The event stream that its answer belongs to has ended."
        try:
            self.refuse(Refusal(refusals.STRANDED, words))
        except Exception as error:  # noqa: BLE001 - because of the same
            self.broke("pair", error)

    def client_paused(self, paused: bool) -> None:
        """Read from the server only as fast as the client reads from us."""
        try:
            if paused and self._lookup is not None and not self.ended:
                self._lookup.step_down()  # at its client's pace nobody else should wait
            if self._ticket is not None:
                self._ticket.pause(paused)
            if self.fanout is not None:
                self.fanout.pause(paused)
        except Exception as error:  # noqa: BLE001 - because of the same
            self.broke("client", error)

    @property
    def endless(self) -> bool:
        """Whether it would never end by itself: an open event stream."""
        return self.listening

    def close_stream(self) -> None:
        """End an open event stream in order, to make room or because the sidecar ends."""
        try:
            if self.begun:
                self.settle("success")
            else:
                words = "The stream has not opened."
                self.refuse(Refusal(refusals.UNOPENED, words, message_id=b"null"))
        except Exception as error:  # noqa: BLE001 - because of the same
            self.broke("drain", error)

    # -- whether anything will

    @property
    def _is_awaited(self) -> bool:
        """Whether others wait for its result."""
        return self._lookup is not None and self._lookup.is_awaited

    def give_up(self) -> None:
        """End it once those are gone, too, for whom it went on without its client."""
        if self.deserted and not self._is_awaited:
            self.settle("cancelled")

    def lost(self, now: float) -> bool:
        """Whether nothing has been known for a while that would lead it on; asked twice a second."""
        if self.waits:
            self._idle = 0.0
        elif self._idle == 0.0:
            self._idle = now
        return self._idle > 0.0 and now - self._idle > LOST_AFTER

    @property
    def waits(self) -> bool:
        """Whether something is known that will lead it on. What stores are asked comes soon, and is not."""
        ticket, fanout, lookup, parked = self._ticket, self.fanout, self._lookup, self._parked
        return (
            (ticket is not None and ticket.serves(self))
            or self._queued
            or (fanout is not None and fanout.waits)
            or (lookup is not None and lookup.waits)
            or (self.pair is not None and self.pair.awaits(self))
            or (parked is not None and not parked.done())
        )

    def __repr__(self) -> str:
        return f"<Exchange {self.label or 'uncounted'} {self._at()}, {monotonic() - self.started:.1f} s>"

    def _at(self) -> str:
        if self.ended:
            return "has ended"
        if self.begun:
            return "is being answered"
        if self._parked is not None and not self._parked.done():
            return "is identified"
        if self._queued:
            return "waits for a slot"
        if self.fanout is not None and self.fanout.waits:
            return "waits for its parts"
        return "waits for the server" if self.forwarded else "is looked up"

    # -- those that come of it

    def child(
        self, downstream: Downstream, context: Context, lines: bytes, mirrors: bytes, body: bytes
    ) -> Exchange:
        """An exchange of the same client's, whose answer goes elsewhere; it is still to be started."""
        exchange = Exchange(self.plane, downstream, self.head, context, body, self.trace, lines)
        exchange.mirrors = mirrors
        exchange.client = self.client
        exchange.via = self.via
        exchange.pair = self.pair
        self.plane.in_flight.add(exchange)
        return exchange

    def refresh(self, stale: Exchange) -> None:
        """Fetch a new result for the one that another call was answered: nothing is counted."""
        try:
            self._refresh(stale)
        except Exception as error:  # noqa: BLE001 - because of the same
            self.broke("refresh", error)

    def _refresh(self, stale: Exchange) -> None:
        self._refreshing = self._admitted = True
        self.client = stale.client
        self.via = stale.via
        self.pair = stale.pair  # whose stream brings the answer
        self.message = request.classify(self.body)
        self._policy = self._settings.policies.of(self.message)
        self.judged = self.message.target is not None
        self.label = stale.label
        assert self._policy.cache is not None
        self.reads = True
        self._find_places(self.message, self._policy.cache)
        self.look_up()

    @property
    def _lasts(self) -> bool:
        """Whether what answers it may stay open for as long as its client wants."""
        message, route = self.message, self.context.route
        if message is not None or self.head.method != b"GET":
            return message is not None and message.method in methods.ENDLESS
        return route == "mcp" or (route == "passed" and EVENT_STREAM in (self.head.get(b"accept") or b""))

    @property
    def _whom(self) -> bytes:
        """Whom the server asks when it asks something in the midst of this call."""
        return self.context.session or (self.client.name.encode() if self.client is not None else b"")

    def _repeatable(self) -> bool:
        if self.message is None:
            return self.head.method == b"GET"
        cached = self._policy is not None and self._policy.cache is not None
        return self.message.method in methods.SAFE or cached

    def _park(self, answer: Any, go_on: Callable[[Any], None]) -> None:
        """Wait for something that is awaited, then go on; the client may leave meanwhile."""

        async def resume() -> None:
            try:
                value = await answer
                self._parked = None
                if not self.ended:
                    go_on(value)
            except Exception as error:  # noqa: BLE001 - because of the same
                self.broke("token", error)

        self._parked = asyncio.get_running_loop().create_task(resume())
