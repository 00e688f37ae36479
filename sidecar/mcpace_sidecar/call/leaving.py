"""What becomes of calls and streams when the sidecar ends: they end here, or are asked for elsewhere.

A stream that another replica passes on is cut once its session can go over: that one asks for it again,
which is what moves the session, and its client notices nothing.
"""

from __future__ import annotations

from typing import Final

from mcpace_sidecar.call import refusals, refusing
from mcpace_sidecar.call.answer import Answer
from mcpace_sidecar.call.continuing import Continuing
from mcpace_sidecar.call.handover import UNDISTURBED
from mcpace_sidecar.call.legacy_sse import PairStream
from mcpace_sidecar.call.plane import InFlight, Plane
from mcpace_sidecar.call.refusals import Refusal
from mcpace_sidecar.sessions.session import Session

_UNKNOWN: Final = "The replica ends before the call did. Whether it took effect is unknown."


def close_streams(plane: Plane) -> None:
    """End in order what clients listen to: they open it again, elsewhere.

    Not a stream of 2024-11-05 on which a call's response is still to come.
    """
    for each in list(plane.in_flight):
        relayed = isinstance(each, Answer) and each.relayed
        if each.endless and not relayed and not _is_awaited_on(each):
            each.close_stream()


def _is_awaited_on(each: InFlight) -> bool:
    return isinstance(each, Answer) and isinstance(each.stream, PairStream) and each.stream.is_awaited


def let_go(plane: Plane, now: float) -> None:
    """End clients' streams once Services send those elsewhere; cut each whose session can go over."""
    if not plane.opens_streams:
        close_streams(plane)
    streams: list[tuple[Answer, Session]] = []
    asked: set[Session] = set()
    for each in plane.in_flight:
        if not isinstance(each, Answer) or not isinstance(each.within, Continuing):
            continue
        session = each.call.context.live
        if session is None:
            continue
        if each.passed_on:
            streams.append((each, session))
        elif each.within.is_asking(session):
            asked.add(session)
    undisturbed = now - plane.draining_since < plane.settings.drain_timeout * UNDISTURBED
    for answer, session in streams:
        stays = session.stays > 0.0 or session.reviving is not None or (undisturbed and session in asked)
        if not stays or not session.here:
            session.stays = max(session.stays, now)
            answer.cut()


def is_done(plane: Plane) -> bool:
    """Whether nothing is in flight but streams of sessions that nobody could take."""
    return all(_has_stayed(each) for each in plane.in_flight)


def _has_stayed(each: InFlight) -> bool:
    if not isinstance(each, Answer) or not each.passed_on:
        return False
    session = each.call.context.live
    return session is None or (session.stays > 0.0 and session.reviving is None)


def tell(plane: Plane) -> int:
    """End what is in flight all the same, and say so; how many calls those were."""
    told = 0
    for each in list(plane.in_flight):
        if not isinstance(each, Answer):
            continue
        if each.passed_on:
            each.cut()
        elif each.endless:
            each.close_stream()
        else:
            told += 1
            refusing.refuse(each, Refusal(refusals.OF_SERVER["closed"], _UNKNOWN))
    return told
