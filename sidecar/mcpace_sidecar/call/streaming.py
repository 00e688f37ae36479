"""An answer that arrives in pieces: passed on as it comes, and read on the way.

One strategy each: events are relayed one by one, so that the response among them can be kept, counted and
cut into pages; JSON is held until it is whole, up to a bound; of more than that the top level is read, a
piece ahead of what passes; everything else just passes. One may hand over to another in the midst.
"""

from __future__ import annotations

from mcpace_sidecar.call.answer import Answer
from mcpace_sidecar.call.call import EVENT_STREAM
from mcpace_sidecar.call.event_relay import EventRelay
from mcpace_sidecar.call.flow import Flow
from mcpace_sidecar.call.held_json import MOST_JUDGED, MOST_READ, HeldJson
from mcpace_sidecar.call.listening import Listening
from mcpace_sidecar.call.opaque import Opaque
from mcpace_sidecar.call.opening import Opening
from mcpace_sidecar.call.stream import Stream, Streamed
from mcpace_sidecar.http.head import ResponseHead
from mcpace_sidecar.http.ledger import Ledger


def of(
    call: Streamed, answer: Answer, head: ResponseHead, gathered: Ledger, *, judged: bool, kept: bool,
    opens: bool = False, listens: bool = False,
) -> Stream:  # fmt: skip
    """The way to stream an answer. `judged`: it is read; `kept`: its result is wanted besides.

    `opens`: it may begin a session; `listens`: it is a stream that a session listens to.
    """
    plain = head.status == 200 and head.get(b"content-encoding") is None
    events = head.content_type == EVENT_STREAM
    if plain and judged and not events:
        return HeldJson(call, answer, head, gathered, MOST_READ if kept else MOST_JUDGED)
    if plain and events and opens:
        return Opening(call, answer, head, gathered)
    flow = Flow(answer, pulse=events and plain and head.length is None)
    # Events that are read may be given another shape, or an id, and another length.
    length = None if plain and (judged or (events and listens)) else head.length
    answer.begin(call.lines(head) + answer.limit_lines, length, head.status, events=events)
    if plain and events and (listens or judged):
        call.record()
        if answer.recording is not None and answer.recording.primes:
            flow.say(b"".join(answer.recording.add(b"data: \n\n")))
    if plain and events and listens:
        return Listening(flow, gathered)
    if plain and judged:
        return EventRelay(call, flow, head, gathered)
    return Opaque(flow, head)
