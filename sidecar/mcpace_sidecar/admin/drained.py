"""Those who wait on the admin port until the sidecar is drained: the preStop of the server's container.

The kubelet asks as the pod's end begins, beside the command that makes the sidecar drain, and tells the
server to end when it is answered. Waiting changes nothing, so it takes no token: in the manifest of a pod
that were no secret. https://kubernetes.io/docs/concepts/containers/container-lifecycle-hooks/
"""

from __future__ import annotations

from collections import Counter
from time import monotonic
from typing import Final

from mcpace_sidecar.call import leaving
from mcpace_sidecar.call.plane import Plane
from mcpace_sidecar.http.downstream import status_line
from mcpace_sidecar.http.server import ClientConnection

SETTLING: Final = 8.0
"""Seconds from a drain's beginning in which Services forget the pod and kept connections are sent
elsewhere: calls still come, and nobody is told that it is over. As long is waited for a drain to begin."""
MOST: Final = 32
"""Who waits at once; more are refused, and leave connections to the probes."""
MOST_EACH: Final = 4
"""The same from one address, so that nobody takes the kubelet's place."""
_DRAINED: Final = status_line(200) + b"Content-Type: application/json\r\n"


class _Waiter:
    """One who waits."""

    __slots__ = ("_all", "connection", "since")

    def __init__(self, waiting: Drained, connection: ClientConnection) -> None:
        self._all = waiting
        self.connection = connection
        self.since = monotonic()

    def client_gone(self) -> None:
        """It waits no more."""
        self._all.waiting.discard(self)

    def client_paused(self, paused: bool) -> None:
        """Nothing is sent to it yet."""


class Drained:
    """Answers `GET /drained` once nothing is in flight, and after `drainTimeout` at the latest."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self.waiting: set[_Waiter] = set()

    def take(self, connection: ClientConnection) -> _Waiter | None:
        """Let it wait; None where too many do already."""
        peers = Counter(each.connection.peer for each in self.waiting)
        if peers.total() >= MOST or peers[connection.peer] >= MOST_EACH:
            return None
        waiter = _Waiter(self, connection)
        self.waiting.add(waiter)
        return waiter

    def sweep(self, now: float) -> None:
        """Answer those who have waited enough; about twice a second."""
        for waiter in list(self.waiting):
            if self._is_enough(now, waiter.since):
                self.waiting.discard(waiter)
                body = b'{"drained":%s}' % (b"true" if self._is_drained else b"false")
                waiter.connection.answer(_DRAINED, body)

    @property
    def _is_drained(self) -> bool:
        return self._plane.draining and leaving.is_done(self._plane)

    def _is_enough(self, now: float, since: float) -> bool:
        patience = self._plane.settings.drain_timeout
        settling = min(SETTLING, patience)
        if not self._plane.draining:  # the server alone is told to end, because it does not answer
            return now - since >= settling
        settled = now - self._plane.draining_since >= settling
        return (settled and self._is_drained) or now - since >= patience
