"""Two ends of the way between sidecars: the port, and who comes there, without what they say to each other."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from tests.kit.waiting import DEADLINE, until

from mcpace_sidecar.errors import ProtocolError, UpstreamError
from mcpace_sidecar.http.address import Address
from mcpace_sidecar.http.connections import Connections
from mcpace_sidecar.http.fetch import Fetch
from mcpace_sidecar.http.head import RequestHead
from mcpace_sidecar.http.known import RequestHeads
from mcpace_sidecar.http.ledger import Ledger
from mcpace_sidecar.http.receiver import Unheard
from mcpace_sidecar.http.server import ClientConnection
from mcpace_sidecar.relay.certificate import Certificates
from mcpace_sidecar.relay.peers import Peers
from mcpace_sidecar.relay.port import RelayPort

OLD, NEW, FOREIGN = (bytes([number]) * 32 for number in range(3))
"""Keys of servers."""
REQUEST = b"GET / HTTP/1.1\r\nHost: relay\r\n\r\n"


class App:
    """Answers whatever it is asked, and remembers it."""

    def __init__(self) -> None:
        self.heads = RequestHeads()
        self.max_request_bytes = 1 << 20
        self.idle_timeout = 60.0
        self.draining = False
        self.asked: list[bytes] = []
        self.silent = False
        """Whether nothing is answered but by `waiting`."""
        self.waiting: list[ClientConnection] = []

    def judge_head(self, _: ClientConnection, __: RequestHead) -> bool:
        return False

    def on_request(self, connection: ClientConnection, head: RequestHead, _: bytes) -> App | None:
        self.asked.append(head.target)
        if self.silent:
            self.waiting.append(connection)
            return self
        connection.answer(b"HTTP/1.1 200 OK\r\n", b"relayed")
        return None

    def client_gone(self) -> None:
        """It waits no more (http.downstream.Responder)."""

    def client_paused(self, _: bool) -> None:
        """It is told nothing yet."""

    def on_bad_request(self, _: ProtocolError) -> tuple[bytes, bytes]:
        return b"", b"bad"

    def on_broken(self, error: Exception) -> tuple[bytes, bytes]:
        raise error


class Stream(Unheard):
    """An open stream's receiver."""

    def __init__(self) -> None:
        self.failed: list[UpstreamError] = []

    def on_failure(self, error: UpstreamError) -> None:
        self.failed.append(error)


class Relay:
    """One end: a port, and peers."""

    def __init__(self, *secrets: bytes) -> None:
        self.app = App()
        certificates = Certificates(*secrets)
        self.connections = Connections(lambda _: None, 1000, 1 << 20, 1 << 20)
        self.port = RelayPort(self.app, self.connections, certificates.server())
        self.peers = Peers(
            "127.0.0.1:0", certificates.clients(), None, None, lambda: False, self.raised, Ledger(1 << 20)
        )

    def raised(self, error: Exception) -> None:
        raise error

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.port.address.port}"

    @property
    def open_connections(self) -> int:
        return len(self.connections.open) + sum(map(len, self.peers._pools.values()))

    async def ask(self, place: str) -> bytes:
        _, body = await Fetch().from_pool(self.peers.pool(place), REQUEST, DEADLINE)
        return body


@contextlib.asynccontextmanager
async def relays(*all_secrets: tuple[bytes, ...]) -> AsyncIterator[list[Relay]]:
    made = [Relay(*secrets) for secrets in all_secrets]
    try:
        for each in made:
            await each.port.open(Address("127.0.0.1", 0))
        yield made
    finally:
        for each in made:
            await each.peers.close()
            await each.port.close()
            for connection in list(each.connections.open):
                connection.abort()
        await until(lambda: not any(each.open_connections for each in made), "all connections to end")
        for _ in range(10):  # handshakes that were broken off let go of their transports
            await asyncio.sleep(0)
