"""A transport whose other side a test plays, step by step: interleavings that sockets bring about by chance.

It does what asyncio's and uvloop's transports do, in the order in which they do it: a full buffer pauses
the protocol within `write`, what is closed sends what is buffered first, what is lost is told once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

HIGH, LOW = 64 * 1024, 16 * 1024
"""Bytes in the buffer at which the protocol is paused, and resumed: asyncio's."""


class Transport(asyncio.Transport):
    """One connection. `says`, `ends`, `stalls`, `reads` and `breaks` are what its other side does."""

    def __init__(self, protocol: asyncio.Protocol, peer: str = "192.0.2.1") -> None:
        self._about: dict[str, Any] = {"peername": (peer, 40001)}
        super().__init__(self._about)
        self.sent = b""
        """What the other side has been sent."""
        self.ended = False
        """Whether it was told that nothing more comes."""
        self.wasted = b""
        """What was written though the connection was lost already: nothing should be."""
        self.lost = False
        self._protocol = protocol
        self._buffer = b""
        self._incoming: list[bytes] = []
        self._stalled = self._paused = self._closing = self._eof = False
        self._reading = True

    @classmethod
    def connect(cls, protocol: asyncio.Protocol, peer: str = "192.0.2.1") -> Transport:
        """Connect the other side to a protocol."""
        transport = cls(protocol, peer)
        protocol.connection_made(transport)
        return transport

    def know(self, name: str, what: Any) -> None:
        """Know something more of itself that `get_extra_info` tells."""
        self._about[name] = what

    # -- the other side

    def says(self, *pieces: bytes) -> None:
        """Send bytes, each piece in one read; what nobody reads waits, or is lost with the connection."""
        self._incoming += [piece for piece in pieces if piece]
        self._deliver()

    def ends(self) -> None:
        """End its direction, as `shutdown(SHUT_WR)` and `close` do."""
        if not self._closing and not self._protocol.eof_received():
            self.close()

    def stalls(self) -> None:
        """Read nothing from now on."""
        self._stalled = True

    def reads(self, size: int | None = None) -> None:
        """Read so many bytes of what waits, or all and from now on."""
        if size is None:
            self._stalled, size = False, len(self._buffer)
        self.sent += self._buffer[:size]
        self._buffer = self._buffer[size:]
        if self._paused and len(self._buffer) <= LOW:
            self._paused = False
            self._protocol.resume_writing()
        if not self._buffer:
            self.ended = self.ended or self._eof
            if self._closing:
                self._lose(None)

    def breaks(self, error: Exception | None = None) -> None:
        """Reset the connection."""
        self._closing = True
        self._lose(error or ConnectionResetError())

    async def settled(self) -> Transport:
        """Once all that was to happen in the next turns of the loop has happened."""
        for _ in range(5):
            await asyncio.sleep(0)
        return self

    # -- the protocol's side

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes, or buffer them while the other side does not read."""
        if self._eof:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self.lost:
            self.wasted += bytes(data)
        elif self._closing and not self._buffer:
            return  # it is lost in the loop's next turn
        elif not self._stalled:
            self.sent += bytes(data)
        else:
            self._buffer += bytes(data)
            if len(self._buffer) > HIGH and not self._paused:
                self._paused = True
                self._protocol.pause_writing()

    def write_eof(self) -> None:
        """End this direction once what is buffered is sent."""
        if not self._closing:
            self._eof = True
            self.ended = not self._buffer

    def can_write_eof(self) -> bool:
        """It can."""
        return True

    def close(self) -> None:
        """Read no more, send what is buffered, and then be lost."""
        if not self._closing:
            self._closing = True
            if not self._buffer:
                self._soon(self._lose, None)

    def abort(self) -> None:
        """Be lost, with what is buffered."""
        self._buffer = b""
        self._closing = True
        self._soon(self._lose, None)

    def pause_reading(self) -> None:
        """Leave what the other side says where it is."""
        self._reading = False

    def resume_reading(self) -> None:
        """Take it again."""
        if not self._reading:
            self._reading = True
            self._soon(self._deliver)

    def is_reading(self) -> bool:
        """Whether it takes what the other side says."""
        return self._reading and not self._closing

    def is_closing(self) -> bool:
        """Whether it is closed, or will be once what is buffered is sent."""
        return self._closing

    def get_write_buffer_size(self) -> int:
        """The bytes that wait for the other side."""
        return len(self._buffer)

    def _deliver(self) -> None:
        while self._incoming and self.is_reading():
            self._protocol.data_received(self._incoming.pop(0))

    def _lose(self, error: Exception | None) -> None:
        if not self.lost:
            self.lost = True
            self._buffer = b""
            self._protocol.connection_lost(error)

    @staticmethod
    def _soon(do: Callable[..., None], *arguments: Any) -> None:
        asyncio.get_running_loop().call_soon(do, *arguments)


class Dialled:
    """The connections that are opened in a loop while a test runs."""

    def __init__(self) -> None:
        self.opened: list[Transport] = []

    async def create_connection(
        self, factory: Callable[[], asyncio.Protocol], *_: Any, **__: Any
    ) -> tuple[Transport, asyncio.Protocol]:
        """Take the place of the loop's own."""
        protocol = factory()
        self.opened.append(Transport.connect(protocol))
        return self.opened[-1], protocol
