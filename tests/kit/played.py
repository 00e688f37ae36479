"""A sidecar whose client and whose server a test plays, step by step, without sockets."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.kit.transport import Dialled, Transport

from mcpace_sidecar.contract.config import SidecarConfig, parse
from mcpace_sidecar.http.address import Address
from mcpace_sidecar.http.server import ClientConnection
from mcpace_sidecar.process.options import Options
from mcpace_sidecar.process.sidecar import Sidecar

CALL = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{}}}'
HEAD = b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


class Played:
    """One sidecar that is never started: it listens nowhere, and what it dials is the test's."""

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        self._dialled = Dialled()
        asyncio.get_running_loop().create_connection = self._dialled.create_connection  # type: ignore[method-assign, assignment]
        nowhere = Address("127.0.0.1", 1)
        self.sidecar = Sidecar(
            Options(
                load=lambda: parse(SidecarConfig, config or {}),
                watched=(),
                listen=nowhere,
                admin_listen=nowhere,
                upstream=nowhere,
            )
        )
        self.plane = self.sidecar.plane
        self.pool: Any = self.plane.pool
        self.catalog = self.sidecar.catalog
        self.catalog.configured = frozenset({"t"})

    async def call(self, body: bytes = CALL) -> tuple[Transport, Transport]:
        """Call a tool: (the client's side, the server's, which has been asked)."""
        port = self.sidecar.data_port
        client = Transport.connect(ClientConnection(port, port.heads, self.sidecar.connections))
        client.says(HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        await client.settled()
        server = self._dialled.opened[-1]
        assert body in server.sent, (server.sent, client.sent)
        return client, server

    @property
    def statuses(self) -> dict[str, int]:
        """How the calls of the tool have ended."""
        tally = self.sidecar.tallies.totals().get("t")
        return {str(status): count for status, count in tally.statuses.items()} if tally is not None else {}

    def assert_at_rest(self) -> None:
        """Nothing is held that a call held."""
        assert not self.plane.in_flight
        assert self.pool.gathered.held == 0
        assert self.plane.bulkhead.in_flight == 0


def body_of(answer: bytes) -> bytes:
    """The body of an answer of a known length, or in chunks."""
    head, _, rest = answer.partition(b"\r\n\r\n")
    if b"transfer-encoding" not in head.lower():
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        assert len(rest) == length, (len(rest), length)
        return rest
    body = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        body += rest[: int(size, 16)]
        rest = rest[int(size, 16) + 2 :]
    return body
