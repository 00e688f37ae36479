"""A client asks for the rest of a stream (GET with `Last-Event-ID`), or listens again.

Whatever is held here is said, and what still comes is its from then on. What is held nowhere is asked of
the server, where that gave ids of its own. Else the client is told on the stream that it is lost: SDKs
take an HTTP error for a reason to ask again. A stream of which all was heard is 405: they stop at that.
Source: MCP 2025-11-25, basic/transports (resumability and redelivery).
"""

from __future__ import annotations

from typing import Final

from mcpace_sidecar.call import keeping, refusals
from mcpace_sidecar.call.answer import Answer
from mcpace_sidecar.call.listening import Listening
from mcpace_sidecar.call.plane import Plane
from mcpace_sidecar.call.recording import Recording
from mcpace_sidecar.call.refusals import Refusal
from mcpace_sidecar.http import sse
from mcpace_sidecar.http.head import RequestHead
from mcpace_sidecar.http.server import ClientConnection
from mcpace_sidecar.mcp import answers
from mcpace_sidecar.mcp.methods import TOOLS_CALL, TOOLS_LIST
from mcpace_sidecar.mcp.request import Message
from mcpace_sidecar.relay import peer
from mcpace_sidecar.sessions import event_ids
from mcpace_sidecar.sessions.event_ids import Place
from mcpace_sidecar.sessions.sealing import Owner
from mcpace_sidecar.sessions.session import Session

_RESUMED: Final = "mcpace_streams_resumed"
_PRIMED: Final = b"2025-11-25"
"""The version since which an event without data may come first: older clients take it for a message."""


def resume(asking: Answer) -> Answer | None:
    """What answers a GET of a session without asking the server; None: the server is to be asked."""
    call = asking.call
    session = call.context.session_now() if call.context.live is not None else None
    if session is None or not isinstance(asking.downstream, ClientConnection):
        return None
    asked = call.head.get(b"last-event-id")
    place = event_ids.read(asked) if asked else None
    if place is not None and place.kind == event_ids.END:
        return _ended(asking)
    call.after = place
    if not session.here and (place is None or _is_held_by_owner(asking, session, place)):
        return None  # who holds the session knows
    if place is None or place.kind == event_ids.LISTENING:
        return _listen(asking, session, place)
    recording = _named(asking, session, place)
    if recording is not None and _is_theirs(recording, asking, session):
        call.answers = recording.answers
        rest = _shaped(asking, recording, recording.after(place.number))
        if rest is not None and recording.holder is not None:
            return _move(asking, recording.holder, rest)
        if recording.cancelled or (recording.complete and rest == b""):
            return _ended(asking)
        if rest:
            return _replay(asking, rest, _told(asking, recording))
    if (place.theirs and not is_lost(asking, session.inner)) or holder_of(asking, session) is not None:
        return None
    tell_lost(asking)
    return asking


def take_over(asking: Answer) -> bool:
    """The server speaks to another listener of the session: whether that goes on with who asks now.

    It does where both are one client, of whose older connection nobody has noticed that it broke.
    """
    session, recordings = asking.call.context.live, asking.plane.recordings
    if session is None or asking.begun or is_of_call(asking):
        return False
    recording = recordings.speaking(session.key)
    if recording is None or not _is_theirs(recording, asking, session):
        return False
    if recording.holder is None or not isinstance(asking.downstream, ClientConnection):
        return False
    _move(asking, recording.holder, b"")
    return True


def record(answer: Answer, inner: bytes) -> None:
    """Hold what a stream says, so that its client may come back. `inner`: the server's session."""
    call, plane = answer.call, answer.plane
    session, message, after = call.context.live, call.message, call.after
    if session is None or call.client is None or (message is not None and call.lasts):
        return
    if answer.gatherer is not None or not isinstance(answer.downstream, ClientConnection):
        return
    kind, request = event_ids.LISTENING, b""
    if message is not None:
        kind, request = event_ids.MESSAGE, message.id or b""
    elif after is not None:
        kind, request = after.kind, after.request
    plane.recordings.name = plane.table.name
    recording = answer.recording = plane.recordings.begin(
        answer, session.key, kind, request, call.context.binding(call.client), call.client.name
    )
    if recording is not None:
        recording.primes = session.version >= _PRIMED
        recording.raw = answer.relayed
        recording.answers = call.answers
        if message is not None and message.method in (TOOLS_CALL, TOOLS_LIST):
            recording.answers = Message.named(message.method, message.target)
        recording.hear(event_ids.process_of(inner))


def last_event(answer: Answer, inner: bytes) -> bytes:
    """The line that says after which event whoever is asked is to go on, where that is known to it.

    `inner`: the server's session; empty: another sidecar is asked, whose ids they are.
    """
    stream = answer.stream
    if not inner:
        last = stream.last if isinstance(stream, Listening) else b""
        last = last or answer.call.head.get(b"last-event-id") or b""
        return b"Last-Event-ID: %b\r\n" % last if last else b""
    place: Place | Recording | None = answer.recording or answer.call.after
    if place is None or not place.theirs or place.process != event_ids.process_of(inner):
        return b""
    return b"Last-Event-ID: %b\r\n" % place.theirs


def concluding(answer: Answer, event: bytes) -> bytes:
    """An error of ours, under an id that says that it is the last event: SDKs ask for what follows it."""
    stem = event_ids.stem(answer.plane.table.name, 0, event_ids.process_of(b""), answer.call.message_id)
    return b"id: %b%b1\n%b" % (event_ids.END, stem, event)


def _is_held_by_owner(asking: Answer, session: Session, place: Place) -> bool:
    """Whether what was said is held where the session is, as far as its id tells."""
    holder = asking.plane.table.named(place.holder)
    return place.kind == event_ids.LISTENING or (holder is not None and holder.place == session.owner.place)


def _listen(asking: Answer, session: Session, place: Place | None) -> Answer | None:
    """Go on with what the server says on its own, from where its client has heard it, if that is known."""
    recordings = asking.plane.recordings
    recording, heard = _named(asking, session, place), place.number if place is not None else 0
    if recording is None or (recording.holder is None and not recording.after(heard)):
        recording = recordings.listening(session.key)
        heard = recording.heard if recording is not None else 0
    if recording is None or not _is_theirs(recording, asking, session):
        return None
    rest = recording.after(heard)
    rest = recording.after(recording.first - 1) if rest is None else rest
    recording.heard = recording.number
    if recording.holder is not None:
        return _move(asking, recording.holder, rest)
    return _replay(asking, rest)


def _named(asking: Answer, session: Session, place: Place | None) -> Recording | None:
    """The stream that an id names, if it is held here."""
    if place is None or place.holder != asking.plane.table.name:
        return None
    recording = asking.plane.recordings.find(session.key, place.stream)
    return recording if recording is not None and recording.kind == place.kind else None


def _replay(asking: Answer, rest: bytes | None, told: bytes = b"") -> Answer:
    """Say the rest of what has ended: its client asks again for what follows that."""
    asking.plane.metrics.count(_RESUMED, "replayed")
    asking.settle("success", refusals.OK_EVENTS + told, rest or b"", events=True)
    return asking


def _told(asking: Answer, recording: Recording | None) -> bytes:
    """The line that has another sidecar give the result its shape, where nobody has."""
    if recording is None or recording.answers is None or not (recording.raw and asking.relayed):
        return b""
    return peer.answering(recording.answers.method or "", recording.answers.target)


def _shaped(asking: Answer, recording: Recording, rest: bytes | None) -> bytes | None:
    """The rest of a stream with its result in the shape that it is to have here."""
    if not rest or not recording.raw or not recording.complete or asking.relayed:
        return rest
    said = b""
    for event in sse.Events().feed(rest):
        data = sse.data_of(event)
        if data and answers.kind(data) == "response":
            outcome = answers.read_answer(data)
            said += keeping.resumed_event(asking.plane, asking.call, event, data, outcome)
        else:
            said += event
    return said


def _is_theirs(recording: Recording, asking: Answer, session: Session) -> bool:
    """Whether what was said was said to whoever asks: by the same credential, or the session's last one."""
    client = asking.call.client
    return client is not None and recording.is_of(asking.call.context.binding(client), session.binding)


def _move(asking: Answer, holder: object, rest: bytes | None) -> Answer:
    """Say the rest to whoever asks, and have the answer that is still said go on there."""
    assert isinstance(holder, Answer)
    connection, before, passes_on = asking.downstream, holder.downstream, holder.relayed
    assert isinstance(connection, ClientConnection)
    holder.plane.metrics.count(_RESUMED, "goes_on")
    holder.downstream, holder.relayed = connection, asking.relayed
    asking.settle("success")  # with nothing said: what was begun goes on in its place
    if holder.recording is not None:
        holder.plane.recordings.come_back(holder.recording)
    if isinstance(before, ClientConnection):  # nobody has noticed yet that it broke
        if passes_on:
            before.finish()  # the sidecar there lives, and would ask for it again
        else:
            before.abort()
    holder.deserted = False
    if holder.waiting is not None:
        holder.waiting.pause(False)  # whoever read too slowly is not who reads now
    connection.responder = holder
    recording = holder.recording
    if recording is not None and recording.raw and not recording.complete and not asking.relayed:
        holder.reader, recording.raw = asking.call, False
    connection.start(refusals.OK_EVENTS + _told(asking, recording), None)
    connection.send(rest or b"")
    return holder


def _ended(asking: Answer) -> Answer:
    asking.plane.metrics.count(_RESUMED, "ended")
    asking.refuse(Refusal(refusals.HEARD, "This stream has ended: its response was sent."))
    return asking


def holder_of(asking: Answer, session: Session) -> Owner | None:
    """The replica that holds what was said in a call, where the session has left it, and it may live."""
    after, plane = asking.call.after, asking.plane
    if after is None or asking.begun or asking.relayed or plane.peers is None or not is_of_call(asking):
        return None
    named = plane.table.named(after.holder)
    if named is None or named.place in (plane.table.owner.place, session.owner.place):
        return None
    return None if plane.peers.is_shunned(named.place) else named


def is_held(plane: Plane, head: RequestHead) -> bool:
    """Whether a GET asks for the rest of a call's stream that was said here, wherever its session is."""
    asked = head.get(b"last-event-id")
    place = event_ids.read(asked) if asked and head.method == b"GET" else None
    return place is not None and place.kind == event_ids.MESSAGE and place.holder == plane.table.name


def is_of_call(answer: Answer) -> bool:
    """Whether it goes on with a call's stream."""
    after = answer.call.after
    return after is not None and after.kind == event_ids.MESSAGE


def is_lost(answer: Answer, inner: bytes) -> bool:
    """Whether it goes on with a call's stream whose process has ended: the next one cannot say the rest.

    `inner`: the server's session.
    """
    after, recording = answer.call.after, answer.recording
    if after is None or not is_of_call(answer):
        return False
    process = recording.process if recording is not None else after.process
    return process != event_ids.process_of(inner)


def tell_lost(answer: Answer) -> None:
    """There is nobody any more who could say the rest."""
    place = answer.call.after
    assert place is not None
    words = "The rest of this answer is lost. Whether the call took effect is unknown."
    refusal = Refusal(refusals.UNHEARD, words)
    answer.plane.metrics.count(_RESUMED, "lost")
    event = sse.event_of(refusal.body(place.request or b"null"))
    if answer.recording is not None:
        event = b"".join(answer.recording.add(event, last=True))
    else:
        stem = event_ids.stem(place.holder, place.stream, place.process, place.request)
        event = b"id: %b%b%d\n%b" % (event_ids.END, stem, place.number + 1, event)
    if answer.begun:
        answer.send(event)
        answer.settle(refusal.reason.record)
    else:
        answer.settle(refusal.reason.record, refusals.OK_EVENTS, event, events=True)
