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
from mcpace_sidecar.call.opaque import Opaque
from mcpace_sidecar.call.stream import Stream, Streamed
from mcpace_sidecar.http.head import ResponseHead
from mcpace_sidecar.http.ledger import Ledger


def of(
    call: Streamed, answer: Answer, head: ResponseHead, gathered: Ledger, *, judged: bool, kept: bool
) -> Stream:
    """The way to stream an answer. `judged`: it is read; `kept`: its result is wanted besides."""
    plain = head.status == 200 and head.get(b"content-encoding") is None
    events = head.content_type == EVENT_STREAM
    if plain and judged and not events:
        return HeldJson(call, answer, head, gathered, MOST_READ if kept else MOST_JUDGED)
    flow = Flow(answer, pulse=events and plain and head.length is None)
    # Events that are read may be given another shape, and another length.
    length = None if plain and judged else head.length
    answer.begin(head.onward + answer.limit_lines, length, head.status, events=events)
    if plain and judged:
        return EventRelay(call, flow, head, gathered)
    return Opaque(flow, head)
