"""The nodes that commands go to: one, or those of a Redis Cluster.

In a cluster all keys of a server have one hash tag, so they are in one slot, and at any moment at one
node, which is asked. A node that has not the slot answers MOVED; one that is handing it over, ASK for
keys that have gone already, and TRYAGAIN for a command whose keys are partly here and partly there. Such
a command was not run: it is sent where its answer will be.
Source: the Redis Cluster specification.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from mcpace_sidecar.contract.addresses import Place
from mcpace_sidecar.errors import StoreError
from mcpace_sidecar.redis.wire import ANSWER_TIMEOUT, Done, Wire, unread

log = logging.getLogger(__name__)

TRY_AGAIN: Final = 0.01
"""Seconds until a command is sent again whose keys are on their way to another node."""

Then = Callable[[Wire | None], None]
"""Takes the connection to a node, or None: it is not reached."""


class Nodes:
    """The connections of one link, and which of them is asked."""

    def __init__(self, name: str, connect: Callable[[Place], Awaitable[Wire]]) -> None:
        """`name` is the link's, for the log; `connect` raises OSError, TimeoutError, StoreError."""
        self.current: Wire | None = None
        """Where the keys are."""
        self.open: dict[Place, Wire] = {}
        """Of a cluster, those that we are connected to."""
        self._name = name
        self._connect = connect
        self._reaching: dict[Place, list[Then]] = {}
        self._reaches: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Nodes {self.current}, {len(self.open)} open, {len(self._reaching)} sought>"

    def send(self, wire: Wire, done: Done, command: tuple[bytes, ...]) -> None:
        """Ask a node of a cluster, and whomever it names."""
        wire.send(_Routed(self, wire, done, command).answered, command)

    def moved(self, place: Place, then: Then) -> None:
        """The keys are at another node now: go there."""

        def there(wire: Wire | None) -> None:
            if wire is not None and self.current is not None and self.current is not wire:
                log.info("Redis (%s): the keys have moved to %s:%d", self._name, *place)
                self.current = wire
            then(wire)

        self.reach(place, there)

    def reach(self, place: Place, then: Then) -> None:
        """Call with the connection to a node of the cluster, or None; now or later."""
        node = self.open.get(place)
        if node is not None:
            then(node)
        elif place in self._reaching:
            self._reaching[place].append(then)
        else:
            self._reaching[place] = [then]
            task = asyncio.get_running_loop().create_task(self._reach(place))
            self._reaches.add(task)
            task.add_done_callback(self._reaches.discard)

    async def _reach(self, place: Place) -> None:
        node: Wire | None = None
        try:
            node = await self.at(place)
        except (OSError, TimeoutError, StoreError) as error:
            log.warning("Redis (%s): %s:%d is not reached: %s", self._name, *place, error)
        for then in self._reaching.pop(place):
            then(node)

    async def at(self, place: Place) -> Wire:
        """The connection to a node of the cluster; OSError, TimeoutError, StoreError."""
        wire = self.open.get(place)
        if wire is None:
            wire = self.open[place] = await self._connect(place)
        return wire

    def lost(self, wire: Wire) -> bool:
        """A connection has ended; whether it was the one that is asked."""
        if wire.place is not None and self.open.get(wire.place) is wire:
            del self.open[wire.place]
        if wire is not self.current:
            return False
        self.current = None
        return True

    def drop(self, words: str) -> None:
        """Close them all; what was asked is told so."""
        for task in self._reaches:
            task.cancel()
        for node in [*self.open.values()]:
            node.drop(words)
        if self.current is not None:
            self.current.drop(words)


class _Routed:
    """One command on its way through a cluster."""

    def __init__(self, nodes: Nodes, wire: Wire, done: Done, command: tuple[bytes, ...]) -> None:
        self._nodes = nodes
        self._wire = wire
        self._done = done
        self._command = command
        self._until = time.monotonic() + ANSWER_TIMEOUT

    def answered(self, answer: Any) -> None:
        """Pass the answer on, or the command to where it will be answered."""
        if not isinstance(answer, StoreError) or time.monotonic() > self._until:
            self._done(answer)
            return
        words = str(answer)
        kind, place = redirection(words, self._wire.place)
        if kind == "MOVED" and place is not None:
            self._nodes.moved(place, self._again)
        elif kind == "ASK" and place is not None:
            self._nodes.reach(place, self._ask)
        elif words.startswith("TRYAGAIN"):
            asyncio.get_running_loop().call_later(TRY_AGAIN, lambda: self._again(self._nodes.current))
        else:
            self._done(answer)

    def _again(self, wire: Wire | None) -> None:
        if wire is None:
            self._done(StoreError("the node that has the keys is not reached"))
            return
        self._wire = wire
        wire.send(self.answered, self._command)

    def _ask(self, wire: Wire | None) -> None:
        if wire is not None:
            wire.send(unread, (b"ASKING",))
        self._again(wire)


def redirection(words: str, asked: Place | None) -> tuple[str, Place | None]:
    """What `MOVED slot host:port` and `ASK slot host:port` say; the host may be that of who was asked."""
    parts = words.split()
    if len(parts) < 3 or parts[0] not in ("MOVED", "ASK"):
        return "", None
    host, _, port = parts[2].rpartition(":")
    host = host.strip("[]") or (asked[0] if asked is not None else "")
    return (parts[0], (host, int(port))) if host and port.isdigit() else ("", None)
