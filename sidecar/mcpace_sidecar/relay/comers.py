"""Who has come to the relay port, and whose handshake has not begun: how many, and who is next."""

from __future__ import annotations

import socket
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

MOST: Final = 256
"""Those who wait; beyond them one of the address with the most goes."""
MOST_EACH: Final = 32
"""Those of one address."""
WAITS: Final = 2.0
"""Seconds in which a handshake must begin."""


class Comer:
    """One of them."""

    __slots__ = ("hello", "opened", "peer", "since")

    def __init__(self, opened: socket.socket, peer: str, since: float) -> None:
        """`peer`: its address. `since`: in seconds of the monotonic clock."""
        self.opened = opened
        self.peer = peer
        self.since = since
        self.hello = False
        """Whether it has begun to speak."""


class Comers:
    """All of them, by their addresses, which take turns."""

    def __init__(self, most: int = MOST, most_each: int = MOST_EACH) -> None:
        self._most, self._most_each = most, most_each
        self._by_peer: OrderedDict[str, dict[Comer, None]] = OrderedDict()
        """The address whose turn is next comes first."""
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def all(self) -> list[Comer]:
        """All that there are."""
        return [comer for comers in self._by_peer.values() for comer in comers]

    def has_room(self, peer: str) -> bool:
        """Whether one more of this address may come: not where it has the most already."""
        its = len(self._by_peer.get(peer, ()))
        return its < self._most_each and (self._count < self._most or its < len(self._heaviest()))

    def add(self, comer: Comer) -> Comer | None:
        """Take in one for which there is room; who has to go for it, if anybody."""
        leaves: Comer | None = None
        if self._count >= self._most:
            leaves = next(reversed(self._heaviest()))
            self.discard(leaves)
        self._by_peer.setdefault(comer.peer, {})[comer] = None
        self._count += 1
        return leaves

    def _heaviest(self) -> dict[Comer, None]:
        """Those of the address with the most, the newest last."""
        return max(self._by_peer.values(), key=lambda comers: len(comers))  # noqa: PLW0108 - because of its type

    def discard(self, comer: Comer) -> None:
        """It waits no more."""
        its = self._by_peer.get(comer.peer)
        if its is not None and comer in its:
            del its[comer]
            self._count -= 1
            if not its:
                del self._by_peer[comer.peer]

    def next(self, may_begin: Callable[[str], bool]) -> Comer | None:
        """Who begins, of those that have spoken; the next time it is another address's turn."""
        for peer, its in self._by_peer.items():
            if may_begin(peer):
                for comer in its:
                    if comer.hello:
                        self._by_peer.move_to_end(peer)
                        return comer
        return None

    def since(self, when: float) -> list[Comer]:
        """Those who have waited since then, or for longer."""
        return [comer for comer in self.all() if comer.since <= when]

    def __repr__(self) -> str:
        return f"<Comers {self._count} of {len(self._by_peer)} addresses>"
