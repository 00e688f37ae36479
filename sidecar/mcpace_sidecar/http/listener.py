"""Where clients come in."""

from __future__ import annotations

import asyncio

from mcpace_sidecar.http.address import Address
from mcpace_sidecar.http.connections import Connections
from mcpace_sidecar.http.downstream import Application
from mcpace_sidecar.http.server import ClientConnection
from mcpace_sidecar.http.tcp import serve_modestly


async def listen(
    app: Application[ClientConnection], connections: Connections, address: Address, backlog: int
) -> asyncio.Server:
    """Let an application answer all who connect to an address; OSError if it is taken.

    The host `*` is every address of every family there is: a cluster may be IPv4, IPv6 or both.
    """
    server = await asyncio.get_running_loop().create_server(
        lambda: ClientConnection(app, app.heads, connections),
        None if address.host == "*" else address.host,
        address.port,
        backlog=backlog,
    )
    for listening in server.sockets:
        serve_modestly(listening)
    return server
