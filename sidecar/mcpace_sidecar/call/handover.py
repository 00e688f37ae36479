"""Whether a replica that ends gives a session to another before it sends what came for it. Pure."""

from __future__ import annotations

from typing import Final

from mcpace_sidecar.call.answer import Answer
from mcpace_sidecar.call.call import Call
from mcpace_sidecar.call.plane import Plane
from mcpace_sidecar.call.sent import Sent
from mcpace_sidecar.sessions.session import Session

UNDISTURBED: Final = 0.5
"""The part of a drain in which a session with a call in flight stays where that is."""


def is_due(plane: Plane, call: Call, session: Session, now: float) -> bool:
    """Whether others are asked to take it: this call begins something, and nothing is under way."""
    message = call.message
    if message is not None:
        asks = message.method is not None and message.id is not None
    else:
        asks = call.head.method == b"GET"
    if not asks or now < session.stays:
        return False
    undisturbed = plane.settings.drain_timeout * UNDISTURBED
    return now - plane.draining_since >= undisturbed or not _is_busy(plane, session)


def _is_busy(plane: Plane, session: Session) -> bool:
    """Whether the server is asked something in the session: it may ask back, and is to be answered."""
    return any(
        isinstance(other, Answer) and isinstance(other.within, Sent) and other.within.is_asking(session)
        for other in plane.in_flight
    )
