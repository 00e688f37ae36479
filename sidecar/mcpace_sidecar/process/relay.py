"""What one sidecar has of the others of its server: the port where they come in, and the way to each."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable

from mcpace_sidecar.call.peer_port import PeerPort
from mcpace_sidecar.call.plane import Plane
from mcpace_sidecar.errors import ConfigError, ListenError, words_of
from mcpace_sidecar.http.address import Address
from mcpace_sidecar.redis.link import Link
from mcpace_sidecar.relay.certificate import Certificates
from mcpace_sidecar.relay.peers import Peers
from mcpace_sidecar.relay.port import RelayPort
from mcpace_sidecar.relay.succession import Succession
from mcpace_sidecar.sessions.record import Records


class Relay:
    """Both, and what they need."""

    def __init__(
        self, listen: Address, names: Address | None, keys: tuple[bytes, ...], plane: Plane,
        records: Records, link: Link | None, is_ready: Callable[[], bool],
        on_error: Callable[[Exception], None],
    ) -> None:  # fmt: skip
        """`keys`: of the server; `names`: under which peers are found without `link`'s Redis."""
        table = plane.table
        certificates = Certificates(*keys)
        self._listen = listen
        self._connections = plane.connections
        self.peers = Peers(
            table.owner.place, certificates.clients(), link, names, lambda: len(table) > 0, on_error,
            plane.pool.gathered,
        )  # fmt: skip
        self.port = PeerPort(plane, is_ready)
        self._door = RelayPort(self.port, plane.connections, certificates.server())
        table.records = records
        table.adopt(plane.settings.config.sessions)
        plane.peers = self.peers
        plane.revival.claims = Succession(
            table, records, self.peers, lambda: is_ready() and not plane.draining
        )
        self.sweeps = (self.peers.sweep,)

    async def open(self) -> None:
        """Listen; ListenError."""
        try:
            await self._door.open(self._listen)
        except OSError as error:
            raise ListenError(self._listen, words_of(error)) from error

    def leave(self) -> None:
        """Hold no session any more, and say so."""
        self.port.leaving = True
        self.peers.leave()

    async def close(self) -> None:
        """Close every connection."""
        await self._door.close()
        for connection in self._connections.of(self.port):
            connection.close_if_idle()
        await self.peers.close()


def own_address(listen: Address) -> Address:
    """Where others reach what listens there; ConfigError. A pod has one address, that of its host name."""
    if listen.host != "*":
        try:
            return Address(str(ipaddress.ip_address(listen.host)), listen.port)
        except ValueError:
            raise ConfigError(f"{listen}: write an address, or * for the pod's own") from None
    try:
        found = socket.getaddrinfo(socket.gethostname(), listen.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ConfigError(f"this host's own address is not known: {words_of(error)}") from error
    return Address(str(found[0][4][0]), listen.port)
