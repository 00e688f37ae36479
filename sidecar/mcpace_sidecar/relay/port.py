"""Where peers come in: TLS in which both sides prove that they are of the same server, and nothing before.

Nothing is read of who proves nothing. Handshakes cost more than calls do, so those that fail have a
budget, which they exhaust for themselves: who comes from one address waits behind others of that address,
and the kernel holds whoever comes faster than that.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import OrderedDict, deque
from collections.abc import Callable
from time import monotonic
from typing import Final

from mcpace_sidecar.http.address import Address
from mcpace_sidecar.http.connections import Connections
from mcpace_sidecar.http.downstream import Application
from mcpace_sidecar.http.server import ClientConnection
from mcpace_sidecar.http.tcp import watch

HANDSHAKE_TIMEOUT: Final = 2.0
PENDING: Final = 32
"""Handshakes at once."""
PENDING_EACH: Final = 16
"""Of one address."""
WAITING_EACH: Final = 32
"""Connections of one address that wait for their handshake."""
_BACKLOG: Final = 128


class Budget:
    """So many a second, and so many at once that were not taken before. `clock` gives seconds."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = monotonic) -> None:
        self.rate, self.burst = rate, burst
        self._left = burst
        self._clock = clock
        self._at = clock()

    def take(self) -> bool:
        """Take one; False: there is none left."""
        now = self._clock()
        self._left = min(self.burst, self._left + (now - self._at) * self.rate)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True

    def give(self) -> None:
        """It was well spent."""
        self._left = min(self.burst, self._left + 1.0)

    @property
    def wait(self) -> float:
        """Seconds until there is one."""
        return max(0.0, (1.0 - self._left) / self.rate)


class RelayPort:
    """Listens for peers, and lets an application answer them."""

    def __init__(
        self, app: Application[ClientConnection], connections: Connections, tls: ssl.SSLContext
    ) -> None:
        """`tls` refuses whoever presents no certificate that it trusts."""
        self.accepted = Budget(500.0, 250.0)
        """Connections that are taken from the kernel, and cost little."""
        self.failing = Budget(50.0, 50.0)
        """Handshakes that come to nothing."""
        self.begun = 0
        self.refused = 0
        """Connections that did not get as far as a request."""
        self._app = app
        self._connections = connections
        self._tls = tls
        self._listening: list[socket.socket] = []
        self._waiting: OrderedDict[str, deque[socket.socket]] = OrderedDict()
        """Those that wait for their handshake, by address; whose turn is next comes first."""
        self._pending: dict[str, int] = {}
        self._shaking: set[asyncio.Task[None]] = set()
        self._untouched: set[socket.socket] = set()
        """Those whose handshake is still to begin, by a task that there is."""
        self._later: asyncio.TimerHandle | None = None
        self._paused = False
        self.address = Address("", 0)

    async def open(self, address: Address) -> None:
        """Listen; OSError if it is taken. The host `*` is every address there is."""
        host = None if address.host == "*" else address.host
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        port = address.port
        try:
            for family, *_, place in sorted(found, key=lambda each: each[0], reverse=True):
                listening = socket.socket(family, socket.SOCK_STREAM)
                self._listening.append(listening)
                listening.setblocking(False)
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                listening.bind((place[0], port, *place[2:]))
                port = listening.getsockname()[1]
                listening.listen(_BACKLOG)
        except OSError:
            self._shut()
            raise
        self.address = Address(address.host, port)
        self._listen()

    async def close(self) -> None:
        """Take no more connections; those that there are stay."""
        self._shut()
        if self._later is not None:
            self._later.cancel()
        for task in self._shaking:
            task.cancel()
        await asyncio.gather(*self._shaking, return_exceptions=True)
        for opened in [*self._untouched, *(each for waiting in self._waiting.values() for each in waiting)]:
            opened.close()
        self._waiting.clear()

    def _shut(self) -> None:
        self._pause()
        for each in self._listening:
            each.close()
        self._listening.clear()

    # -- from the kernel

    def _listen(self) -> None:
        self._paused = False
        for listening in self._listening:
            asyncio.get_running_loop().add_reader(listening, self._accept, listening)

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            for listening in self._listening:
                asyncio.get_running_loop().remove_reader(listening)

    def _accept(self, listening: socket.socket) -> None:
        if not self.accepted.take():
            self._pause()
            asyncio.get_running_loop().call_later(0.05, self._resume)
            return
        try:
            opened, place = listening.accept()
        except OSError:
            return
        opened.setblocking(False)
        peer = str(place[0])
        waiting = self._waiting.setdefault(peer, deque())
        if len(waiting) >= WAITING_EACH:
            self._drop(opened)
        else:
            waiting.append(opened)
        self._go_on()

    def _resume(self) -> None:
        if self._paused and self._listening:
            self._listen()

    def _drop(self, opened: socket.socket) -> None:
        self.refused += 1
        opened.close()

    # -- handshakes

    def _go_on(self) -> None:
        """Begin as many handshakes as there may be, each address in turn."""
        passed = 0
        while self._waiting and passed < len(self._waiting) and len(self._shaking) < PENDING:
            peer, waiting = next(iter(self._waiting.items()))
            self._waiting.move_to_end(peer)
            if self._pending.get(peer, 0) >= PENDING_EACH:
                passed += 1
                continue
            if not self.failing.take():
                if self._later is None:
                    loop = asyncio.get_running_loop()
                    self._later = loop.call_later(self.failing.wait + 0.001, self._again)
                return
            passed = 0
            opened = waiting.popleft()
            if not waiting:
                del self._waiting[peer]
            self._begin(peer, opened)

    def _again(self) -> None:
        self._later = None
        self._go_on()

    def _begin(self, peer: str, opened: socket.socket) -> None:
        self.begun += 1
        self._pending[peer] = self._pending.get(peer, 0) + 1
        self._untouched.add(opened)
        task = asyncio.get_running_loop().create_task(self._shake(opened))
        self._shaking.add(task)

        def done(ended: asyncio.Task[None]) -> None:
            self._shaking.discard(ended)
            self._pending[peer] -= 1
            if not self._pending[peer]:
                del self._pending[peer]
            if self._listening:
                self._go_on()

        task.add_done_callback(done)

    async def _shake(self, opened: socket.socket) -> None:
        self._untouched.discard(opened)
        try:
            watch(opened)
        except OSError:  # it has gone already
            self._drop(opened)
            return
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: ClientConnection(self._app, self._app.heads, self._connections),
                opened, ssl=self._tls, ssl_handshake_timeout=HANDSHAKE_TIMEOUT,
            )  # fmt: skip
        except (OSError, TimeoutError):
            self.refused += 1
        else:
            self.failing.give()

    def __repr__(self) -> str:
        waiting = sum(map(len, self._waiting.values()))
        return f"<RelayPort {len(self._shaking)} handshakes, {waiting} waiting, {self.refused} refused>"
