"""Kept connections to one peer, which has proved that it is one; and whether it is there at all.

A peer is gone if nobody listens there, if a stranger does, or if it acknowledges no connection. One that
accepts a connection and proves nothing in time is busy: what it holds is not lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import socket
import ssl
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Final

from mcpace_sidecar.contract.config import SidecarConfig
from mcpace_sidecar.errors import BusyError, SilentError, UpstreamError
from mcpace_sidecar.http.address import Address
from mcpace_sidecar.http.client import UpstreamConnection
from mcpace_sidecar.http.known import ResponseHeads
from mcpace_sidecar.http.ledger import Ledger
from mcpace_sidecar.http.pool import PendingRequest, Pool
from mcpace_sidecar.http.receiver import Receiver
from mcpace_sidecar.http.tcp import watch

CONNECT_TIMEOUT: Final = 0.3
"""Seconds that a peer has to accept a connection: it is near, or gone."""
HANDSHAKE_TIMEOUT: Final = 2.0
"""Seconds of a handshake: it may be busy."""
AT_ONCE: Final = 8
"""Handshakes at once: a burst of calls waits for the connections that there are."""
SILENCE: Final = 0.3
"""Seconds for which a peer may be silent that is asked something; then it is asked whether it is there."""
_MOST_SILENCE: Final = 5.0
"""The same, where it has said so and has been silent since: its server takes its time."""
_TRIES: Final = 2
_BETWEEN: Final = 0.075
"""Seconds between two handshakes with a peer that is busy."""
_AFTER: Final = 0.2
"""Seconds until another is begun, where there are connections that serve meanwhile."""
IDLE_TIMEOUT: Final = 30.0
MOST_CONNECTIONS: Final = 256
"""Connections to one peer; TLS makes them large."""
_UNREACHABLE: Final = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN})
"""How the network says that nobody has the address."""


class PeerPool(Pool):
    """Kept connections to one peer."""

    def __init__(
        self, address: Address, certificates: list[tuple[ssl.SSLContext, str]], gathered: Ledger,
        on_gone: Callable[[], None], on_error: Callable[[Exception], None],
        room: Callable[[PeerPool], int], on_freed: Callable[[], None],
    ) -> None:  # fmt: skip
        """`certificates`: how to speak to it, and the name to ask for, the best first.

        `gathered`: what is held of answers that are not whole, its own and others'. `on_gone` is told that
        it does not answer at all. `room` says how many connections to all peers there may be beside those
        that there are, without the ones that this pool opens; `on_freed` is told that one is gone.
        """
        super().__init__(address, certificates[0][0], on_error=on_error)
        self.gathered = gathered
        self._certificates = certificates
        self._on_gone = on_gone
        self._room, self._on_freed = room, on_freed
        self._responses = ResponseHeads()
        self._looking: asyncio.TimerHandle | None = None
        self._asking: asyncio.Task[None] | None = None
        self._silence = SILENCE
        self._asked_at = 0.0
        """When it was last asked whether it is there, because it was silent."""
        self._there = -math.inf
        """When it has last said that it is."""
        self.used = monotonic()
        self.most_opening = AT_ONCE
        self.max_connections = MOST_CONNECTIONS
        self.idle_timeout = IDLE_TIMEOUT
        once = CONNECT_TIMEOUT + HANDSHAKE_TIMEOUT
        self.connect_timeout = _TRIES * (len(certificates) * once + _BETWEEN)

    def adopt(self, config: SidecarConfig) -> None:
        """Its bounds are its own."""

    def tune(self, opened: socket.socket) -> None:
        """Its machine may vanish: notice that within seconds, whether it is asked something or not."""
        watch(opened)

    def request(
        self, request: Sequence[bytes], receiver: Receiver, patience: float | None
    ) -> UpstreamConnection | PendingRequest:
        """Send a request, and look after a moment whether there is anybody to answer it.

        Where nothing was heard for a moment, that is asked before: what was not sent may go elsewhere.
        """
        if self._looking is None and patience is not None:
            self._looking = asyncio.get_running_loop().call_later(SILENCE, self._look)
        if not self._idle or monotonic() - max(self.heard, self._there) < SILENCE:
            return super().request(request, receiver, patience)
        line = self._line if patience is not None else self._streams_line
        waiting = PendingRequest(request, receiver, patience, line)
        if self._asking is None:
            self._asking = asyncio.get_running_loop().create_task(self._ask())
        return waiting

    # -- all peers' connections are bounded together

    @property
    def taken(self) -> int:
        """Connections for calls, those among them that are being opened."""
        return self._calls + len(self._opening)

    @property
    def opening(self) -> int:
        """Connections that are being opened."""
        return len(self._opening)

    @property
    def idle(self) -> int:
        """Connections without a request."""
        return len(self._idle)

    def shed(self) -> None:
        """Close the one that is idle for the longest."""
        self._idle.popleft().close()

    def go_on(self) -> None:
        """Open connections for those who wait, if there is room."""
        if self._line:
            self._open_for_line()

    def forget(self, connection: UpstreamConnection) -> None:
        """A connection is lost."""
        super().forget(connection)
        self._on_freed()

    def _open_for_line(self) -> None:
        if self._line:
            self.max_connections = min(MOST_CONNECTIONS, self._calls + self._room(self))
        super()._open_for_line()

    async def close(self) -> None:
        """Close every connection."""
        if self._looking is not None:
            self._looking.cancel()
        if self._asking is not None:
            self._asking.cancel()
        await super().close()

    # -- whether it is there

    def _look(self) -> None:
        """A kept connection to a machine that has vanished looks like one to a server that thinks."""
        self._looking = None
        now = monotonic()
        if not self.at_work(now):
            return
        loop = asyncio.get_running_loop()
        if self.heard > self._asked_at:
            self._silence = SILENCE
        since = max(self.asked, self.heard, self._asked_at)
        if self._asking is None and now - since >= self._silence * 0.9:
            self._asked_at = now
            self._silence = min(2 * self._silence, _MOST_SILENCE)
            self._asking = loop.create_task(self._ask())
        self._looking = loop.call_later(SILENCE, self._look)

    async def _ask(self) -> None:
        try:
            opened = await self._reach(self.address.hosts[0])
        except SilentError:
            if not self._end_if_silent():
                self._serve_lines()
        except OSError:
            self._serve_lines()  # its connections end by themselves
        else:
            opened.close()
            self._there = monotonic()
            self._serve_lines()
        finally:
            self._asking = None

    def _serve_lines(self) -> None:
        while self._idle and (self._line or self._streams_line):
            connection = self._idle.pop()
            if connection.usable and not self._serve(connection):
                self._idle.append(connection)
                break
        self._open_for_line()

    def _end_if_silent(self) -> bool:
        """It has acknowledged no connection. Whether it has said nothing meanwhile either, and is gone."""
        if self.heard > monotonic() - CONNECT_TIMEOUT:
            return False
        self._on_gone()
        words = "The replica that holds the session has vanished."
        self._fail_line(UpstreamError("connect", words))
        for connection in list(self._all):
            connection.fail(UpstreamError("closed", words))
        return True

    # -- connections

    def not_opened(self, error: OSError) -> None:
        """One connection could not be opened: what that says of the peer."""
        silent = isinstance(error, SilentError)
        refused = isinstance(error, ConnectionRefusedError)
        proves_nothing = isinstance(error, ssl.SSLError)
        if refused or proves_nothing or error.errno in _UNREACHABLE or (silent and self._end_if_silent()):
            if not refused:  # asking again would take its time
                self._on_gone()
            words = "The replica that holds the session is gone."
            self._fail_line(UpstreamError("connect", words, refused=refused))
        elif self._all or len(self._opening) > 1:  # the others serve who waits
            self.most_opening = 0
            asyncio.get_running_loop().call_later(_AFTER, self._go_on_opening)
        else:
            words = "The replica that holds the session is busy, and took no connection in time."
            self._fail_line(UpstreamError("busy", words))

    def _go_on_opening(self) -> None:
        self.most_opening = AT_ONCE
        self._open_for_line()

    async def _connect_to(self, host: str) -> UpstreamConnection:
        for left in reversed(range(_TRIES)):
            try:
                return await self._prove(host)
            except BusyError:
                if not left:
                    raise
            await asyncio.sleep(_BETWEEN)
        raise AssertionError

    async def _prove(self, host: str) -> UpstreamConnection:
        """A connection by the first certificate of ours that it knows."""
        busy, last = False, OSError()
        for number, certificate in enumerate(list(self._certificates)):
            opened = await self._reach(host)
            try:
                connection = await self._shake_hands(opened, *certificate)
            except ssl.SSLEOFError as error:
                busy, last = True, error
            except ssl.SSLError as error:
                last = error  # it may know another of our certificates
            except OSError as error:
                busy, last = True, error
            else:
                if number:  # the next time first by what it knows
                    self._certificates.insert(0, self._certificates.pop(number))
                return connection
        if busy:
            raise BusyError from last
        raise last

    async def _shake_hands(
        self, opened: socket.socket, tls: ssl.SSLContext, name: str
    ) -> UpstreamConnection:
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: UpstreamConnection(self, self._responses), sock=opened,
                ssl=tls, server_hostname=name, ssl_handshake_timeout=HANDSHAKE_TIMEOUT,
            )  # fmt: skip
        except BaseException:
            opened.close()
            raise
        return connection

    async def _reach(self, host: str) -> socket.socket:
        """A connection, by the second of two attempts if need be: the first packet of one may be lost."""
        loop, place = asyncio.get_running_loop(), (host, self.address.port)
        attempts = [loop.create_task(_dial(place))]
        reached: socket.socket | None = None
        try:
            while True:
                done, _ = await asyncio.wait(
                    attempts, timeout=CONNECT_TIMEOUT / 2, return_when=asyncio.FIRST_COMPLETED
                )
                if done:
                    reached = done.pop().result()
                    return reached
                if len(attempts) == _TRIES:
                    raise SilentError
                attempts.append(loop.create_task(_dial(place)))
        finally:
            for attempt in attempts:
                attempt.cancel()
                attempt.add_done_callback(lambda ended: _close_other(ended, reached))


async def _dial(place: tuple[str, int]) -> socket.socket:
    opened = socket.socket(socket.AF_INET6 if ":" in place[0] else socket.AF_INET, socket.SOCK_STREAM)
    try:
        opened.setblocking(False)
        watch(opened)
        await asyncio.get_running_loop().sock_connect(opened, place)
    except BaseException:
        opened.close()
        raise
    return opened


def _close_other(attempt: asyncio.Task[socket.socket], reached: socket.socket | None) -> None:
    with contextlib.suppress(asyncio.CancelledError, OSError):
        opened = attempt.result()
        if opened is not reached:
            opened.close()
