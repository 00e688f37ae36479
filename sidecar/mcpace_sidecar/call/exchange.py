"""The path of a call, from bytes to bytes.

    request -> route        which path, which method, from where
            -> identify     whose call it is
            -> classify     what it is
            -> admit        may it, by tier and target
            -> look_up      is the result known: memory, a call in flight, Redis
            -> enter        is there room: circuit breaker, slots
            -> forward      ask the server
            -> take_answer  keep the result, cut it into pages
            -> settle       answer, say how it went, and let go of all that was held

With `countCacheHits: false`, admit comes after look_up. `stages` has two more: PARTS, where a batch waits
for its parts, and PURGE, where results that a write has made old are taken away before it settles.

One message is one `Exchange`. Each stage answers, goes straight on to the next, or waits for one thing: a
token, a kept result, a slot, its parts, the server; the common call for the server alone. What is known of
it is its `Call`; what it holds, how it is answered, judged and recorded its `Answer`; what the server says
comes to its `Asking`.
"""

from __future__ import annotations

from typing import final

from mcpace_sidecar.cache.entry import Entry, Place
from mcpace_sidecar.cache.lookup import Lookup
from mcpace_sidecar.call import batch, keeping, own_tools, refusals, refusing, resuming, room, stages
from mcpace_sidecar.call.admission import Admission
from mcpace_sidecar.call.answer import Answer
from mcpace_sidecar.call.asking import Asking
from mcpace_sidecar.call.call import Call
from mcpace_sidecar.call.context import Context
from mcpace_sidecar.call.fanout import Child, Part
from mcpace_sidecar.call.passing_on import NO_STREAM, PassingOn, finds_stream, is_anothers
from mcpace_sidecar.call.plane import Plane
from mcpace_sidecar.call.refusals import Refusal
from mcpace_sidecar.call.waiting import Parked
from mcpace_sidecar.http.downstream import Downstream, Nobody
from mcpace_sidecar.identity.client import Caller
from mcpace_sidecar.limits.bucket import Verdict
from mcpace_sidecar.mcp import request
from mcpace_sidecar.mcp.strictness import MessageError
from mcpace_sidecar.telemetry.events import CacheUse
from mcpace_sidecar.telemetry.faults import Site


@final
class Exchange:
    """One message on its way."""

    # Defaults of the class, not set for each instance: most of them stay so.
    deadline = 0.0
    """When a slot must have come free, in seconds of the monotonic clock."""
    _places: tuple[Place, ...] = ()
    """Where its result may be kept."""
    admitted = False
    """Whether its limits let it go on, or none counts it."""
    _rounds = 0
    """How often the server has asked before this call went on, of those that one counted call covers."""

    def __init__(self, plane: Plane, downstream: Downstream, call: Call) -> None:
        self.plane = plane
        self.call = call
        self.answer = Answer(plane, call, downstream)
        self.started = call.started

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
        context, refusal = self.call.context, self._refusal()
        if refusal is not None:
            self.refuse(refusal)
        elif context.own is not None:
            head, body = context.own
            self.answer.settle("success", head, body or None)
        elif context.route == "open":
            if context.health:
                head, body = self.plane.health()
                self.answer.settle("success", head, body if self.call.head.method == b"GET" else None)
            else:
                self.forward()
        elif context.route == "pair" and not finds_stream(self.answer):
            self.refuse(Refusal(refusals.PATH, NO_STREAM))
        else:
            self.identify()

    def refused(self) -> bool:
        """Refuse by its head alone what is refused whatever its body is; whether it was."""
        context, refusal = self.call.context, self._refusal()
        if refusal is not None:
            self.refuse(refusal)
        elif context.route != "open" and not context.token:
            caller = context.caller or self.call.via.caller
            if caller.client is None:
                self._identified(caller)
        return self.call.ended

    def _refusal(self) -> Refusal | None:
        """Why its head alone is refused."""
        context, via = self.call.context, self.call.via
        return context.refusal or (Refusal(refusals.HEADER, via.refusal) if via.refusal else None)

    def identify(self) -> None:
        """Whose call it is."""
        context = self.call.context
        caller = context.caller
        tokens = context.settings.identities.tokens
        if caller is None and context.token and tokens is not None:
            caller = tokens.known(context.token)
            if caller is None:
                self.call.stage = stages.IDENTIFY
                self.answer.waiting = Parked(
                    tokens.judge(context.token), self._identified, self.answer.broke
                )
                return
        self._identified(caller or self.call.via.caller)

    def _identified(self, caller: Caller) -> None:
        call = self.call
        self.answer.waiting = None
        if call.ended:
            return
        call.client = caller.client
        if caller.client is None:
            resource = call.context.resource(call.head) if caller.status == 401 else None
            more = resource.challenge() if resource is not None else b""
            self.refuse(refusals.unauthorized(caller.words, caller.status, more))
        elif call.context.unknown:
            self.refuse(refusals.no_session())
        elif call.context.route == "pair" and is_anothers(self.answer):
            self.refuse(Refusal(refusals.PATH, NO_STREAM))
        elif call.elsewhere is not None:
            PassingOn(self.answer, call.elsewhere[0]).ask()
        elif call.context.route in ("mcp", "pair") and call.head.method == b"POST":
            self.classify()
        else:
            self.pass_on()

    def pass_on(self) -> None:
        """It is no message: the server answers it, unless it asks for the rest of what was said."""
        answer = resuming.resume(self.answer) if self.call.head.method == b"GET" else None
        if answer is None:
            self.forward()
        else:
            self.answer = answer

    def classify(self) -> None:
        """What the message is, and what is done about such a message."""
        call, plane = self.call, self.plane
        settings = call.context.settings
        call.stage = stages.CLASSIFY
        try:
            if call.context.may_batch and request.is_batch(call.body):
                batch.start(self, self.answer)
                return
            message = request.classify(call.body)
            if call.pair is not None and message.id:
                awaited = call.pair.claim(message.id, settings.patience, self.answer.stranded)
                self.answer.awaited = awaited
                if not plane.connections.keep(call.weight):
                    self.refuse(Refusal(refusals.AWAITING, "Too many calls wait for their responses."))
                    return
                awaited.held = call.weight
            call.message = message
            policy = call.policy = settings.policies.of(message)
            if message.target is not None:
                call.label = plane.label(message)
                self.answer.admission = Admission(plane, call.label)
                if settings.spans is not None:
                    call.begin_span(settings.spans, message)
            if policy.cache is not None:
                self._places = keeping.places(plane, call, message, policy.cache)
        except MessageError as error:
            self.answer.admission, call.label = None, ""  # it is nobody's call
            self.refuse(refusals.of_message(error, b"" if call.message is not None else error.message_id))
            return
        if plane.offers and call.is_tool_call and own_tools.start(self, self.answer, message):
            return
        if message.target is None or settings.limits is None:
            self.admitted = True
        elif message.state:
            rounds = plane.conversations.continues(call.conversation(message.state), self._continued)
            if rounds is not None:
                self._go_on(rounds)
            return
        self._go_on(0)

    def _continued(self, rounds: int) -> None:
        try:
            if not self.call.ended:
                self._go_on(rounds)
        except Exception as error:  # noqa: BLE001 - because of the same
            self.broke("conversation", error)

    def _go_on(self, rounds: int) -> None:
        """`rounds`: how often the server had asked when it goes on, where it does."""
        if rounds:
            self._rounds = rounds
            self.admitted = True
        if self.admitted or not self.call.context.settings.count_cache_hits:
            self.look_up()
        else:
            self.admit()

    def admit(self) -> None:
        """May it, by tier and target."""
        call, admission = self.call, self.answer.admission
        limits, price = call.context.settings.limits, call.policy.price if call.policy is not None else None
        assert limits is not None
        assert call.client is not None
        assert admission is not None
        call.stage = stages.ADMIT
        verdict = admission.charge(limits, call.client, price)
        if verdict is not None:
            self._heed_verdict(verdict)
        else:
            admission.ask(self._judged)

    def _judged(self, verdict: Verdict) -> None:
        try:
            if not self.call.ended:
                self._heed_verdict(verdict)
        except Exception as error:  # noqa: BLE001 - because of the same
            self.broke("limits", error)

    def _heed_verdict(self, verdict: Verdict) -> None:
        call, admission = self.call, self.answer.admission
        assert admission is not None
        if not admission.heed(verdict):
            limits = call.context.settings.limits
            assert limits is not None
            assert call.client is not None
            self.refuse(refusals.limited(verdict, limits.tier(call.client), admission.lines))
            return
        self.admitted = True
        if self.answer.lookup is not None:  # looked up before it was counted
            self.enter()
        else:
            self.look_up()

    def look_up(self) -> None:
        """Is the result known: in memory, by an identical call in flight, in Redis."""
        if not self._places:
            self.missed()
            return
        call, plane, policy = self.call, self.plane, self.call.policy
        call.stage, call.cache_use = stages.LOOK_UP, "miss"
        if not self.call.refreshing:  # most results are fresh and near: no Lookup is made for them
            for place in self._places:
                entry = plane.results.near(place.key)
                if entry is not None and entry.fresh_until > call.started:
                    self.found(entry, "memory")
                    return
        assert policy is not None
        assert policy.cache is not None
        lookup = self.answer.lookup = self.answer.waiting = Lookup(
            self, plane.results, plane.flights, policy.cache, self._places, refreshing=self.call.refreshing
        )
        lookup.start()

    def found(self, entry: Entry | None, where: CacheUse) -> None:
        """A kept result answers the call; to a refresh it says that another has fetched it."""
        if entry is None or self.call.refreshing:
            self.answer.settle("success")
            return
        self.call.cache_use = where
        self.answer.give("success", entry, keeping.shaped(self.plane, self.call, entry.result))

    def renew(self) -> None:
        """Fetch a new result behind the back of a client that was answered with an old one."""
        call = self.call
        again = Call(call.context, call.via, call.head, call.body, call.trace, call.lines)
        fetching = Exchange(self.plane, Nobody(), again)
        again.refreshing = True
        self.plane.refreshing.add(fetching.answer)
        fetching.refresh(call)

    def missed(self) -> None:
        """No kept result does."""
        self.answer.waiting = None
        if self.admitted:
            self.enter()
        else:
            self.admit()

    def enter(self) -> None:
        """Is there room: circuit breaker, slots."""
        admission, call = self.answer.admission, self.call
        if admission is None:
            message = call.message
            if message is not None and message.method is None and message.id is not None:
                self.plane.questions.answered(call.whom, message.id)
            self.forward()
            return
        live = call.context.live
        if live is not None and not live.here:
            admission.elsewhere = True
            self.forward()
            return
        call.stage = stages.ENTER
        self.deadline = self.started + self.patience
        if room.found(self.answer, admission, self):
            self.forward()

    def seated(self, left: float) -> None:
        """A slot has come free."""
        self.answer.waiting = None
        try:
            if self.answer.admission is not None:
                self.answer.admission.seated(self)
            self.forward(left)
        except Exception as error:  # noqa: BLE001 - because of the same
            self.broke("seat", error)

    def overdue(self) -> None:
        """No slot came free in time."""
        self.answer.waiting = None
        try:
            room.overdue(self.answer)
        except Exception as error:  # noqa: BLE001 - because of the same
            self.broke("overdue", error)

    def forward(self, left: float | None = None) -> None:
        """Ask the server. `left`: seconds it may take, where some have passed already."""
        Asking(self.answer, self._rounds).ask(left)

    # -- how it may end before its time

    @property
    def ended(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.call.ended

    @property
    def patience(self) -> float:
        """Seconds that the server's answer may take to come."""
        return self.call.context.settings.patience

    def refuse(self, refusal: Refusal) -> None:
        """Say no."""
        refusing.refuse(self.answer, refusal)

    def broke(self, site: Site, error: Exception) -> None:
        """Whatever raises ends here: this call is answered, no other is harmed."""
        self.answer.broke(site, error)

    # -- those that come of it

    def child(self, part: Part, context: Context, lines: bytes, mirrors: bytes, body: bytes) -> Child:
        """A part: a call of the same client's, whose answer goes into this one's; still to be begun."""
        call = self.call
        its = Call(context, call.via, call.head, body, call.trace, lines)
        its.mirrors, its.client, its.opened, its.pair = mirrors, call.client, call.opened, call.pair
        exchange = Exchange(self.plane, part, its)
        exchange.answer.gatherer = part
        self.plane.in_flight.add(exchange.answer)
        return exchange

    def refresh(self, stale: Call) -> None:
        """Fetch a new result for the one that another call was answered: nothing is counted."""
        try:
            self._refresh(stale)
        except Exception as error:  # noqa: BLE001 - because of the same
            self.broke("refresh", error)

    def _refresh(self, stale: Call) -> None:
        call = self.call
        self.admitted = True
        call.client, call.opened, call.pair = stale.client, stale.opened, stale.pair
        message = call.message = request.classify(call.body)
        policy = call.policy = call.context.settings.policies.of(message)
        call.label = stale.label
        if message.target is not None:
            self.answer.admission = Admission(self.plane, call.label)
        assert policy.cache is not None
        self._places = keeping.places(self.plane, call, message, policy.cache)
        self.look_up()

    def __repr__(self) -> str:
        return f"<Exchange {self.call!r}>"
