"""What a process is reached by, and how one is started: by pipes on this machine, or by a connection."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol, cast

from mcpace_sidecar.errors import UpstreamError, words_of
from mcpace_sidecar.http.address import Address


class Heard(Protocol):
    """What is told of one process."""

    def started(self, channel: Channel) -> None:
        """It runs: told before anything else, since it may end at once."""

    def feed(self, data: bytes) -> None:
        """It has written this to its standard output."""

    def lost(self, how: str) -> None:
        """It has ended; how, in words."""


class Channel:
    """To one process."""

    def write(self, data: bytes) -> None:
        """Write to its standard input."""
        raise NotImplementedError

    def unread(self) -> int:
        """Bytes that it has not read."""
        raise NotImplementedError

    def end_input(self) -> None:
        """Let its standard input be at its end."""
        raise NotImplementedError

    def terminate(self) -> None:
        """Ask it, and all that it has started, to end."""
        raise NotImplementedError

    def kill(self) -> None:
        """End it, and all that it has started."""
        raise NotImplementedError

    def lives(self) -> bool:
        """Whether anything of it is left, once it has ended itself."""
        raise NotImplementedError

    def close(self) -> None:
        """Nothing is left of it."""

    def echo(self, line: bytes) -> None:
        """It has written this where only messages belong."""


class Launch:
    """How processes are started."""

    waits = False
    """Whether who starts them may not be there yet, so that none is at fault where none starts."""

    async def start(self, process: Heard) -> None:
        """Start one, which is told that it runs, what it writes and that it has ended; UpstreamError."""
        raise NotImplementedError

    def close(self) -> None:
        """No more are started, and none is left."""


CONNECT: Final = 5.0
"""Seconds until a connection is accepted."""


class _Connection(asyncio.Protocol, Channel):
    """A process behind a TCP connection: it ends when that does."""

    def __init__(self, process: Heard) -> None:
        self._process = process
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._process.started(self)

    def data_received(self, data: bytes) -> None:
        self._process.feed(data)

    def connection_lost(self, error: Exception | None) -> None:
        del error
        self._transport = None
        self._process.lost("ended")

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def unread(self) -> int:
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def end_input(self) -> None:
        if self._transport is not None:
            self._transport.write_eof()

    def terminate(self) -> None:
        self.kill()

    def kill(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def lives(self) -> bool:
        return False


class Connections(Launch):
    """Each connection to an address is a process there: in a pod, where its container starts them."""

    waits = True

    def __init__(self, address: Address) -> None:
        self._address = address

    async def start(self, process: Heard) -> None:
        """Connect."""
        try:
            async with asyncio.timeout(CONNECT):
                await asyncio.get_running_loop().create_connection(
                    lambda: _Connection(process), self._address.hosts[0], self._address.port
                )
        except (OSError, TimeoutError) as error:
            how = f"not within {CONNECT:g} s" if isinstance(error, TimeoutError) else words_of(error)
            words = f"No process of the server can be started: nothing answers on {self._address} ({how})."
            raise UpstreamError("connect", words, refused=not isinstance(error, TimeoutError)) from None
