"""What one sidecar has of the others of its server: the port where they come in, and the way to each."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable

from mcpace_sidecar.call.passed_over import PassedOver
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
        passed_over = PassedOver(plane)
        table.on_passed = passed_over.add
        self.sweeps = (self.peers.sweep, passed_over.sweep)

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
    """Where others reach what listens there; ConfigError.

    What listens on every address is reached by that of the host's name: a pod has one, and it is that.
    """
    family = socket.AF_UNSPEC
    if listen.host != "*":
        try:
            given = ipaddress.ip_address(listen.host)
        except ValueError:
            raise ConfigError(f"{listen}: write an address, or * for the pod's own") from None
        if not given.is_unspecified:
            return Address(str(given), listen.port)
        family = socket.AF_INET if given.version == 4 else socket.AF_INET6
    here = f"--relay-listen {listen}: this host's"
    words = f"write the address at which other replicas reach it, as 10.0.0.7:{listen.port}"
    try:
        found = socket.getaddrinfo(socket.gethostname(), listen.port, family, socket.SOCK_STREAM)
    except OSError as error:
        raise ConfigError(f"{here} own address is not known ({words_of(error)}): {words}") from error
    seen = [each for each in (str(place[0]) for *_, place in found) if _is_seen(each)]
    if not seen:  # all replicas would have one place
        raise ConfigError(f"{here} name leads to itself alone: {words}")
    return Address(seen[0], listen.port)


def _is_seen(address: str) -> bool:
    """Whether others may reach an address of this host's."""
    read = ipaddress.ip_address(address.partition("%")[0])
    return not (read.is_loopback or read.is_unspecified or read.is_link_local)
