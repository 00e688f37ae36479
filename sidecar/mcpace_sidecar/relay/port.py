"""Where peers come in: TLS in which both sides prove that they are of the same server, and nothing before.

Nothing is read of who proves nothing. Handshakes cost more than calls do, so those that fail have a
budget, which they exhaust for themselves: who comes from one address waits behind others of that address,
and behind those that have proved themselves lately.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from time import monotonic
from typing import Final

from mcpace_sidecar.bounded import make_room
from mcpace_sidecar.http.address import Address
from mcpace_sidecar.http.connections import Connections
from mcpace_sidecar.http.downstream import Application
from mcpace_sidecar.http.server import ClientConnection
from mcpace_sidecar.http.tcp import watch
from mcpace_sidecar.relay.comers import WAITS, Comer, Comers

HANDSHAKE_TIMEOUT: Final = 2.0
PENDING: Final = 32
"""Handshakes at once."""
PENDING_EACH: Final = 16
"""Of one address."""
PROVEN: Final = 300.0
"""Seconds for which an address that has proved itself goes first, and has no budget."""
_MOST_PROVEN: Final = 256
_BACKLOG: Final = 1024
_TAKEN: Final = 16
"""Connections that are taken from the kernel in a row."""
_EMPTY: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_HELLO: Final = b"\x16"
"""How a handshake begins (RFC 8446, section 5.1)."""


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
        self.accepted = Budget(4000.0, 500.0)
        """Connections that are taken from the kernel, and cost little."""
        self.failing = Budget(25.0, 50.0)
        """Handshakes that come to nothing."""
        self.begun = 0
        self.refused = 0
        """Connections that did not get as far as a request."""
        self._app = app
        self._connections = connections
        self._tls = tls
        self._listening: list[socket.socket] = []
        self.comers = Comers()
        """Those whose handshake has not begun."""
        self._proven: dict[str, float] = {}
        """The addresses that have proved themselves, and until when they go first."""
        self._pending: dict[str, int] = {}
        self._shaking: set[asyncio.Task[None]] = set()
        self._untouched: set[socket.socket] = set()
        """Those whose handshake is still to begin, by a task that there is."""
        self._later: asyncio.TimerHandle | None = None
        self._overdue: asyncio.TimerHandle | None = None
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
        for timer in (self._later, self._overdue):
            if timer is not None:
                timer.cancel()
        for task in self._shaking:
            task.cancel()
        await asyncio.gather(*self._shaking, return_exceptions=True)
        for opened in self._untouched:
            opened.close()
        for comer in self.comers.all():
            self._drop(comer)

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
        for _ in range(_TAKEN):
            if not self.accepted.take():
                self._wait_for_budget()
                return
            try:
                opened, place = listening.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _EMPTY:  # it would be told again at once
                    self._wait_for_budget()
                return
            peer = str(place[0])
            if self.comers.has_room(peer):
                self._take(opened, peer)
            else:
                self.refused += 1
                opened.close()

    def _take(self, opened: socket.socket, peer: str) -> None:
        opened.setblocking(False)
        comer = Comer(opened, peer, monotonic())
        leaves = self.comers.add(comer)
        asyncio.get_running_loop().add_reader(opened, self._hear, comer)
        if leaves is not None:
            self._drop(leaves)
        if self._overdue is None:
            self._overdue = asyncio.get_running_loop().call_later(WAITS, self._look)

    def _hear(self, comer: Comer) -> None:
        """It has begun a handshake, or is none of ours: nothing is spent on who says nothing."""
        asyncio.get_running_loop().remove_reader(comer.opened)
        try:
            said = comer.opened.recv(1, socket.MSG_PEEK)
        except OSError:
            said = b""
        if said != _HELLO:
            self._drop(comer)
            return
        comer.hello = True
        if self._later is None or self._is_proven(comer.peer):
            self._go_on()

    def _look(self) -> None:
        """Drop those who have waited for too long."""
        self._overdue = None
        for comer in self.comers.since(monotonic() - WAITS):
            self._drop(comer)
        if self.comers:
            self._overdue = asyncio.get_running_loop().call_later(WAITS / 4, self._look)

    def _wait_for_budget(self) -> None:
        self._pause()
        asyncio.get_running_loop().call_later(0.02, self._resume)

    def _is_proven(self, peer: str) -> bool:
        return self._proven.get(peer, 0.0) > monotonic()

    def _resume(self) -> None:
        if self._paused and self._listening:
            self._listen()

    def _drop(self, comer: Comer) -> None:
        self.refused += 1
        self.comers.discard(comer)
        if not comer.hello:
            asyncio.get_running_loop().remove_reader(comer.opened)
        comer.opened.close()

    # -- handshakes

    def _go_on(self) -> None:
        """Begin as many handshakes as there may be."""
        while len(self._shaking) < PENDING:
            comer = self.comers.next(self._goes_first) or self.comers.next(self._has_room)
            if comer is None:
                return
            if not self._is_proven(comer.peer) and not self.failing.take():
                if self._later is None:
                    loop = asyncio.get_running_loop()
                    self._later = loop.call_later(self.failing.wait + 0.001, self._again)
                return
            self.comers.discard(comer)
            self._begin(comer)

    def _goes_first(self, peer: str) -> bool:
        return self._is_proven(peer) and self._has_room(peer)

    def _has_room(self, peer: str) -> bool:
        return self._pending.get(peer, 0) < PENDING_EACH

    def _again(self) -> None:
        self._later = None
        self._go_on()

    def _begin(self, comer: Comer) -> None:
        self.begun += 1
        peer = comer.peer
        self._pending[peer] = self._pending.get(peer, 0) + 1
        self._untouched.add(comer.opened)
        task = asyncio.get_running_loop().create_task(self._shake(comer))
        self._shaking.add(task)

        def done(ended: asyncio.Task[None]) -> None:
            self._shaking.discard(ended)
            self._pending[peer] -= 1
            if not self._pending[peer]:
                del self._pending[peer]
            if self._listening:
                self._go_on()

        task.add_done_callback(done)

    async def _shake(self, comer: Comer) -> None:
        opened = comer.opened
        self._untouched.discard(opened)
        try:
            watch(opened)
        except OSError:  # it has gone already
            self._drop(comer)
            return
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: ClientConnection(self._app, self._app.heads, self._connections),
                opened, ssl=self._tls, ssl_handshake_timeout=HANDSHAKE_TIMEOUT,
            )  # fmt: skip
        except (OSError, TimeoutError):
            self.refused += 1
            self._proven.pop(comer.peer, None)
        else:
            if not self._is_proven(comer.peer):
                self.failing.give()
                make_room(self._proven, _MOST_PROVEN)
            self._proven[comer.peer] = monotonic() + PROVEN

    def __repr__(self) -> str:
        waiting = len(self.comers)
        return f"<RelayPort {len(self._shaking)} handshakes, {waiting} waiting, {self.refused} refused>"
