"""Streaming as it comes: what is not read just passes."""

from __future__ import annotations

from mcpace_sidecar.call.flow import Flow, Flowing, status_of
from mcpace_sidecar.http.head import ResponseHead
from mcpace_sidecar.mcp.answers import Outcome


class Opaque(Flowing):
    """Whatever is not read."""

    def __init__(self, flow: Flow, head: ResponseHead, outcome: Outcome | None = None) -> None:
        """`outcome`: of the response that has passed, or is taken to pass unread."""
        super().__init__(flow, outcome)
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

    def answered(self) -> bool:
        """Nobody has read it."""
        return False
