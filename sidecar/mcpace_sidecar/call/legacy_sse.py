"""The transport of 2024-11-05: one open event stream, and POSTs whose answers arrive on it.

The stream's first event names where messages are posted. Each POST is an exchange like any
other; only its answer, ours or the server's, goes out as an event of the stream, and the POST
itself is answered 202. Where there are other replicas, the endpoint says which holds the stream: they
pass on what is posted there to them. Source: MCP 2024-11-05, basic/transports (HTTP with SSE).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal
from typing import Final
from urllib.parse import urljoin, urlsplit

from mcpace_sidecar.call import endpoint
from mcpace_sidecar.call.answer import Answer
from mcpace_sidecar.call.awaited import Awaited, OpenStream
from mcpace_sidecar.call.stream import Stream
from mcpace_sidecar.errors import UpstreamError
from mcpace_sidecar.http import sse
from mcpace_sidecar.http.downstream import Downstream, status_line
from mcpace_sidecar.http.head import ResponseHead
from mcpace_sidecar.http.ledger import Holding
from mcpace_sidecar.mcp import answers, ids, responses
from mcpace_sidecar.mcp.strictness import MessageError
from mcpace_sidecar.sessions.sealing import UNBOUND

_ACCEPTED = status_line(202)
MAX_AWAITED: Final = 1000
"""Requests of one stream that may await their responses at once."""
_PREFIXES: Final = 8
"""Segments of a path that are looked at from its end."""


class PairStream(Stream):
    """One client's open stream, and the calls whose answers it awaits. It has no response of its own."""

    def __init__(self, answer: Answer, head: ResponseHead) -> None:
        super().__init__()
        self.target = b""
        """Where messages of this stream are posted; empty until the server has said so."""
        self.opened: bytes = answer.call.head.target
        """Where the stream was opened, with its query."""
        self._answer = answer
        self._plane = answer.plane
        self.binding: bytes = UNBOUND
        self._name = b""
        """What is added to the endpoint, so that other replicas know who has the stream."""
        if answer.plane.peers is not None and answer.plane.settings.config.sessions.continuity:
            self.binding = binding_of(answer)
            self._name = answer.plane.table.endpoint(self.binding)
        self._events = sse.Events()
        self._awaited: dict[str | int | Decimal | float | None, Awaited] = {}
        self._pulse = sse.Pulse()
        self._holding = Holding(answer.plane.pool.gathered)
        """Bytes of an event that is not whole."""
        self._said: list[bytes] | None = None
        """What passes when all that came with it has been read; None: nothing is being read."""
        # Events may be given another length.
        answer.begin(head.onward, None, head.status, events=True)

    @property
    def is_awaited(self) -> bool:
        """Whether a response is to come on it."""
        return bool(self._awaited)

    def claim(self, message_id: bytes, patience: float, strand: Callable[[], None]) -> Awaited:
        """Take this id for a call until it has ended; MessageError if another's response has it."""
        key = ids.id_value(message_id)
        if key in self._awaited:
            words = "The id is that of a request whose response is still to come: take another."
            raise MessageError(responses.INVALID_REQUEST, words, message_id)
        if len(self._awaited) >= MAX_AWAITED:
            words = f"{MAX_AWAITED} requests of this stream still await their responses."
            raise MessageError(responses.INVALID_REQUEST, words, message_id)
        awaited = self._awaited[key] = Awaited(self, key, patience, strand)
        return awaited

    def forget(self, awaited: Awaited) -> None:
        """It has ended, however."""
        if self._awaited.get(awaited.key) is awaited:
            del self._awaited[awaited.key]

    def awaits(self, awaited: Awaited) -> bool:
        """Whether its response has not come."""
        return self._awaited.get(awaited.key) is awaited

    def say(self, event: bytes) -> None:
        """Give the client the response of a call, unless the stream has ended."""
        if not self._answer.ended:
            self._send(event)

    def beat(self, now: float, every: float) -> None:
        """Say that the stream is open, where nothing has been said for so many seconds."""
        if self._pulse.due(now, every):
            self._answer.send(sse.PING)

    def _send(self, piece: bytes) -> None:
        if self._said is not None:
            self._said.append(piece)
        elif piece:
            self._pulse.spoke(piece)
            self._answer.send(piece)

    def sweep(self, now: float) -> None:
        """Give up what has been awaited too long; about twice a second."""
        for awaited in list(self._awaited.values()):
            asking = awaited.asking
            if asking is None:
                continue
            if asking.excuses():
                awaited.deadline = now + awaited.patience
            elif awaited.deadline < now:
                words = f"The server did not answer within {awaited.patience:g} s."
                asking.fail(UpstreamError("timeout", words))

    def piece(self, piece: bytes) -> None:
        """Take the next bytes of the stream."""
        said = self._said = []
        try:
            for event in self._events.feed(piece):
                said.append(self._read(event))  # noqa: PERF401 - because reading says things too
            if self._events.overfull or not self._holding.resize(self._events.held):
                self._let_go()
        finally:
            self._said = None
            if not self._answer.ended:
                self._send(b"".join(said))

    def end(self) -> None:
        """The server has ended it."""
        self._answer.settle("success")

    def _let_go(self) -> None:
        """Pass on as it comes an event that cannot be held: of a response the first id alone is read."""
        begun = self._events.rest()
        self._holding.resize(0)
        awaited = self._awaited.get(ids.id_value(ids.first_id(sse.data_of(begun))))
        self._send(begun)
        if awaited is not None and awaited.asking is not None:
            awaited.asking.passed()

    def release(self) -> None:
        """It has ended: nobody will hear the awaited answers."""
        self._holding.resize(0)
        streams = self._plane.pairs
        for target in spellings(self.target):
            if streams.get(target) is self:
                del streams[target]
        stranded, self._awaited = self._awaited, {}
        for awaited in stranded.values():
            awaited.strand()

    def _read(self, event: bytes) -> bytes:
        data = sse.data_of(event)
        if not self.target and sse.name_of(event) == b"endpoint":
            self.target = endpoint_of(self.opened, data)
            if not self.target:
                return event
            if self._name:
                self.target = endpoint.named(self.target, self._name)
            for target in spellings(self.target):
                self._plane.pairs.setdefault(target, self)
            # A path, whole or relative, is the client's to join to the URL that it knows; only an absolute
            # URL would lead it past the sidecar.
            leads_past = b"://" in data
            if not self._name:
                return sse.with_data(event, self.target) if leads_past else event
            whole = leads_past or b"#" in data
            return sse.with_data(event, self.target if whole else endpoint.named(data.strip(), self._name))
        kind = answers.kind(data) if data else ""
        if kind == "request":
            self._plane.questions.asked(self.target, answers.id_of(data), time.monotonic())
        elif kind == "response":
            value = ids.id_value(answers.id_of(data))
            awaited = self._awaited.get(value)
            if awaited is not None and awaited.asking is not None:
                del self._awaited[value]
                awaited.asking.answered(event, data)
                return b""
            if self._is_late(data):
                return b""
        return event

    def _is_late(self, data: bytes) -> bool:
        """Whether nobody waits for a response: a result, or an error with an id that was asked with."""
        if answers.read_answer(data).result:
            return True
        message_id = answers.id_of(data)
        return bool(message_id) and self._plane.knows(message_id)


def endpoint_of(target: bytes, said: bytes) -> bytes:
    """The request target that messages are posted to, as the server says it on the stream of `target`.

    Empty where it says nothing sensible.
    """
    try:
        place = urlsplit(urljoin("http://server" + target.decode("latin-1"), said.decode("latin-1")))
    except ValueError:
        return b""
    return f"{place.path}{'?' + place.query if place.query else ''}".encode("latin-1")


def spellings(target: bytes) -> list[bytes]:
    """A target, and what is left of it where gateways have taken a prefix of its path away."""
    path, question, query = target.partition(b"?")
    parts = path.split(b"/")[-_PREFIXES:]
    return [
        b"/" + b"/".join(parts[n:]) + question + query
        for n in range(1 if path[:1] == b"/" else 0, len(parts))
    ]


class Posted:
    """Where the answer of a posted message goes: a `Downstream` before the stream."""

    def __init__(self, pair: OpenStream, connection: Downstream) -> None:
        self.peer = connection.peer
        self.event = b""
        """The event with which the server answered, if it did."""
        self._pair = pair
        self._connection = connection
        self._accepted = False
        self._begun = False
        self._ok = False

    def accept(self) -> None:
        """Answer the POST itself."""
        if not self._accepted:
            self._accepted = True
            self._connection.answer(_ACCEPTED, b"Accepted")

    def told(self, http: int, *, events: bool) -> None:
        """A response of the server's, or of ours, is HTTP 200."""
        del events
        self._ok = http == 200

    def goes_elsewhere(self) -> bool:
        """The stream brings it."""
        return True

    def answer(self, head: bytes, body: bytes) -> None:
        """A whole answer: a response goes to the stream, anything else to the POST."""
        if self._begun:
            self._connection.abort()  # the POST's own answer, which will not be whole
        if self._accepted or (self._ok and answers.kind(body) == "response"):
            self.accept()
            event = self.event
            self._pair.say(sse.with_data(event, body) if event else sse.event_of(body))
        else:
            self._connection.answer(head, body)

    def answer_empty(self, head: bytes) -> None:
        """An answer without a body."""
        self._connection.answer_empty(head)

    def start(self, head: bytes, length: int | None) -> None:
        """A streamed answer to the POST itself."""
        self._accepted = self._begun = True
        self._connection.start(head, length)

    def send(self, piece: bytes) -> None:
        """Its next bytes."""
        self._connection.send(piece)

    def finish(self) -> None:
        """Its end."""
        self._begun = False
        self._connection.finish()

    def abort(self) -> None:
        """It broke off."""
        self._connection.abort()


def binding_of(answer: Answer) -> bytes:
    """What tells a known client from others, however often its token is renewed; UNBOUND: nobody known."""
    client = answer.call.client
    if client is None or client.anonymous:
        return UNBOUND
    who = client.subject or client.name
    return answer.plane.table.binding((who.encode(),), known=True)


def is_posted(answer: Answer) -> bool:
    """Whether the stream is open whose endpoint a message was posted to: it is answered there."""
    call = answer.call
    pair = answer.plane.pairs.get(call.head.target)
    if pair is None:
        return False
    call.opened, call.pair = pair.opened, pair
    answer.downstream = answer.gatherer = Posted(pair, answer.downstream)
    return True
