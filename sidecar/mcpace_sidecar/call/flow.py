"""What all ways of streaming have in common: what passes to the client, and how it is recorded."""

from __future__ import annotations

from mcpace_sidecar.call.answer import Answer
from mcpace_sidecar.call.stream import Stream
from mcpace_sidecar.http import sse
from mcpace_sidecar.mcp.answers import Outcome
from mcpace_sidecar.telemetry.events import Status


class Flow:
    """What passes to the client."""

    def __init__(self, answer: Answer, *, pulse: bool = False, come: int = 0) -> None:
        self.answer = answer
        self._pulse = sse.Pulse() if pulse else None
        self.come = come
        """Bytes that the server has sent."""

    def say(self, piece: bytes) -> None:
        """Pass on some bytes."""
        if self._pulse is not None:
            self._pulse.spoke(piece)
        self.answer.send(piece)

    def beat(self, now: float, every: float) -> None:
        """Say that it is open, where nothing has been said for so many seconds."""
        if self._pulse is not None and self._pulse.due(now, every):
            self.answer.send(sse.PING)

    def unrecord(self) -> None:
        """What is said from now on is not held for a client that comes back, nor what was."""
        recording, self.answer.recording = self.answer.recording, None
        if recording is not None:
            self.answer.plane.recordings.forget(recording)

    def settle(self, status: Status) -> None:
        """Nothing more comes."""
        self.answer.settle(status, sent=self.come)


class Flowing(Stream):
    """A stream that passes to the client as it comes, or event by event."""

    def __init__(self, flow: Flow, outcome: Outcome | None = None) -> None:
        """`outcome`: of the response that has passed."""
        super().__init__()
        self.outcome = outcome
        self._flow = flow

    def conclude(self) -> None:
        """End it now."""
        outcome = self.outcome
        self._flow.settle("success" if outcome is None or outcome.ok else "error")

    def beat(self, now: float, every: float) -> None:
        """As a comment, between two events."""
        self._flow.beat(now, every)


def status_of(http: int, *, ok: bool) -> Status:
    """How an answer of this HTTP status is recorded. `ok`: whether it is no error."""
    return "failed" if http >= 500 else "success" if ok else "error"
