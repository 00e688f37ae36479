"""A request of the sidecar's own, off every call's way."""

from __future__ import annotations

import asyncio
from typing import Any

from mcpace_sidecar.errors import UpstreamError
from mcpace_sidecar.http.backend import Backend
from mcpace_sidecar.http.client import MAX_WHOLE
from mcpace_sidecar.http.head import ResponseHead
from mcpace_sidecar.http.receiver import ByStatus


class Fetch(ByStatus):
    """A request of the sidecar's own, to be awaited: the whole answer, bounded."""

    def __init__(self, limit: int = 4 * MAX_WHOLE) -> None:
        self._done: asyncio.Future[tuple[ResponseHead, bytes]] = asyncio.get_running_loop().create_future()
        self._limit = limit
        self._head: ResponseHead | None = None
        self._pieces: list[bytes] = []
        self._ticket: Any = None

    async def from_pool(self, pool: Backend, request: bytes, seconds: float) -> tuple[ResponseHead, bytes]:
        """Send `request` and return its answer; UpstreamError."""
        self._ticket = pool.request((request,), self, seconds)
        try:
            async with asyncio.timeout(seconds):
                return await self._done
        except TimeoutError:
            raise UpstreamError("timeout", f"The server did not answer within {seconds:g} s.") from None
        finally:
            if not self._done.done() or self._done.cancelled():
                self._ticket.cancel()

    def on_answer(self, head: ResponseHead, body: bytes) -> None:
        """The whole answer."""
        if not self._done.done():
            self._done.set_result((head, body))

    def on_head(self, head: ResponseHead) -> None:
        """The head of a streamed answer."""
        self._head = head

    def on_piece(self, piece: bytes) -> None:
        """The next bytes."""
        self._pieces.append(piece)
        self._limit -= len(piece)
        if self._limit < 0:
            self._ticket.cancel()  # there may be no end of it
            self._pieces = []
            self.on_failure(UpstreamError("malformed", "The server's answer is too large."))

    def on_end(self) -> None:
        """The end."""
        assert self._head is not None
        self.on_answer(self._head, b"".join(self._pieces))

    def on_failure(self, error: UpstreamError) -> None:
        """No answer."""
        if not self._done.done():
            self._done.set_exception(error)
