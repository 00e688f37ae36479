"""Saying no to a call, or answering it with what was kept where a tool's rule allows that."""

from __future__ import annotations

from typing import Final

from mcpace_sidecar.call.answer import Answer
from mcpace_sidecar.call.keeping import shaped
from mcpace_sidecar.call.refusals import TOOL, Refusal
from mcpace_sidecar.telemetry.events import Status

_STOOD_IN: Final = ("shed", "failed")
"""The records of refusals in whose place a kept result may be answered."""


def stands_in(answer: Answer, status: Status) -> bool:
    """Answer with a result that is not fresh any more, where its tool's rule allows that."""
    fallback = answer.lookup.fallback if answer.lookup is not None else None
    if fallback is None:
        return False
    answer.call.cache_use = "stale"
    answer.give(status, fallback, shaped(answer.plane, answer.call, fallback.result))
    return True


def refuse(answer: Answer, refusal: Refusal) -> None:
    """Say no, or answer with what was kept where there is no room, or the server fails."""
    record = refusal.reason.record
    answer.note(refusal)
    if answer.begun or record not in _STOOD_IN or not stands_in(answer, record):
        answer.refuse(refusal)


def heeds(answer: Answer, status: int) -> bool:
    """What an HTTP error of the server's changes; True: a kept result was answered instead of it."""
    call, admission = answer.call, answer.admission
    if status in (401, 403) and call.client is not None:
        private = call.private
        if private is not None:
            answer.plane.results.purge((private.credential,))
    elif admission is None:
        return False
    elif status == 404 and call.context.session:
        admission.give_back(call.started)  # the session is lost: nothing was called
    elif status >= 500:
        admission.blame = TOOL
        return stands_in(answer, "failed")
    return False
