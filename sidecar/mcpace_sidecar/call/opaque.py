"""Streaming as it comes: what is not read just passes."""

from __future__ import annotations

from mcpace_sidecar.call.flow import Flow, status_of
from mcpace_sidecar.call.stream import Stream
from mcpace_sidecar.http.head import ResponseHead
from mcpace_sidecar.mcp.answers import Outcome


class Opaque(Stream):
    """Whatever is not read."""

    def __init__(self, flow: Flow, head: ResponseHead, outcome: Outcome | None = None) -> None:
        """`outcome`: of the response that has passed, or is taken to pass unread."""
        super().__init__()
        self.outcome = outcome
        self._flow = flow
        self._http = head.status

    def piece(self, piece: bytes) -> None:
        """Pass it on."""
        self._flow.come += len(piece)
        self._flow.say(piece)

    def end(self) -> None:
        """By its HTTP status, where nothing else is known."""
        if self.outcome is not None:
            self.conclude()
        else:
            self._flow.settle(status_of(self._http, ok=self._http == 200))

    def conclude(self) -> None:
        """End it now."""
        outcome = self.outcome
        self._flow.settle("success" if outcome is None or outcome.ok else "error")

    def beat(self, now: float, every: float) -> None:
        """Where events pass unread, a comment may stand between two."""
        self._flow.beat(now, every)

    def answered(self) -> bool:
        """Nobody has read it."""
        return False
