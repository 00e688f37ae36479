"""Whether there is room for a call at the server: circuit breakers, slots, and the line for one."""

from __future__ import annotations

from mcpace_sidecar.bulkhead.slots import Queued
from mcpace_sidecar.call import refusals, refusing
from mcpace_sidecar.call.admission import Admission
from mcpace_sidecar.call.answer import Answer
from mcpace_sidecar.call.refusals import Refusal
from mcpace_sidecar.call.waiting import InLine


def found(answer: Answer, admission: Admission, call: Queued) -> bool:
    """Whether a slot is this call's now: not where it is refused, or waits in the line."""
    wait = admission.wait()
    if wait:
        words = "The server keeps failing and is left alone for a while."
        refusing.refuse(answer, Refusal(refusals.BREAKER, words, seconds=wait))
        return False
    entered = admission.enter(call)
    if entered is None:
        refusing.refuse(answer, Refusal(refusals.QUEUE, "The server is busy and the queue is full."))
    elif not entered:
        answer.waiting = InLine(answer.plane.bulkhead, call)
    return entered or False


def overdue(answer: Answer) -> None:
    """No slot came free in time."""
    refusing.refuse(answer, Refusal(refusals.OVERDUE, "The server is busy: no slot came free in time."))
