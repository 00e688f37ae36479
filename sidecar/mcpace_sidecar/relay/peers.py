"""The other sidecars of this server: which there are, and connections to each.

Who owns a session stands in its id, so nobody is looked for on a call's way. Peers are looked for when an
owner is gone: in Redis, where each says every ten seconds that it lives for as long as it holds sessions;
without Redis by the name under which all pods are found.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from mcpace_sidecar.contract.scripts import PEERS
from mcpace_sidecar.http.address import Address
from mcpace_sidecar.http.ledger import Ledger
from mcpace_sidecar.http.pool import Pool
from mcpace_sidecar.relay.peer_pool import PeerPool

if TYPE_CHECKING:  # a sidecar without Redis should not hold its client in memory
    from mcpace_sidecar.redis.link import Link

HEARTBEAT: Final = 10.0
"""Seconds between two signs of life, while sessions live."""
LIFE: Final = 25
"""Seconds after which a silent peer is no heir."""
SHUNNED: Final = 5.0
"""Seconds for which nobody waits for a peer that did not answer."""
NAMED: Final = 5.0
"""Seconds for which an answer of DNS is believed."""
MOST_CONNECTIONS: Final = 512
"""Connections for calls to all of them together; each has fewer."""
FORGOTTEN: Final = 300.0
"""Seconds after which a peer that nobody asks anything is forgotten."""


class Peers:
    """All of them."""

    def __init__(
        self, me: str, certificates: list[tuple[ssl.SSLContext, str]], link: Link | None,
        name: Address | None, are_needed: Callable[[], bool], on_error: Callable[[Exception], None],
        gathered: Ledger,
    ) -> None:  # fmt: skip
        """`me`: where this one listens. `name`: under which all are found, and their port.

        `are_needed`: whether sessions live here. `gathered`: what is held of answers that are not whole.
        """
        self.me = me
        self._certificates = certificates
        self._link = link
        self._name = name
        self._are_needed = are_needed
        self._on_error = on_error
        self._gathered = gathered
        self._pools: dict[str, PeerPool] = {}
        self.most = MOST_CONNECTIONS
        self._shunned: dict[str, float] = {}
        self._named: list[str] = []
        self._named_at = -NAMED
        self.known: frozenset[str] = frozenset()
        """Where those listen that were found when they were last looked for."""
        self._looking: asyncio.Task[None] | None = None
        self._wanted: list[Callable[[list[str]], Any]] = []

    def pool(self, place: str) -> Pool:
        """The connections to a peer, by where it listens."""
        pool = self._pools.get(place)
        if pool is None:
            host, _, port = place.rpartition(":")
            address = Address(host.strip("[]"), int(port))
            pool = self._pools[place] = PeerPool(
                address, list(self._certificates), self._gathered, lambda: self.shun(place), self._on_error,
                self._room, self._go_on,
            )  # fmt: skip
        pool.used = monotonic()
        return pool

    def _room(self, asking: PeerPool) -> int:
        """How many connections more one may have. Where that is none, another's idle one is closed."""
        room = self.most - sum(pool.taken for pool in self._pools.values()) + asking.opening
        if room <= 0:
            idle = max(
                (pool for pool in self._pools.values() if pool is not asking), key=_idle, default=None
            )
            if idle is not None and idle.idle:
                idle.shed()
        return max(0, room)

    def _go_on(self) -> None:
        """There may be room again for those who wait."""
        for pool in self._pools.values():
            pool.go_on()

    def shun(self, place: str) -> None:
        """It does not answer: for a while nobody else waits for it."""
        self._shunned[place] = monotonic() + SHUNNED

    def is_shunned(self, place: str) -> bool:
        """Whether it did not answer lately."""
        until = self._shunned.get(place)
        if until is None:
            return False
        if until > monotonic():
            return True
        del self._shunned[place]
        return False

    def look(self, done: Callable[[list[str]], Any]) -> None:
        """Tell `done` where the peers listen that live, this one among them; soon."""

        def told(answer: Any) -> None:
            # Those that hold no session are known by name alone.
            said = answer if isinstance(answer, list) else []
            living = [each.decode() for each in said if isinstance(each, bytes)]
            self._resolve(lambda named: done(self._found([*living, *named])))

        if self._link is None or not self._link.up:
            told(None)
        else:
            self._beat(self._link, told)

    def _beat(self, link: Link, told: Callable[[Any], None]) -> None:
        link.run(told, PEERS, [link.prefix + b"peers"], self.me.encode(), b"%d" % LIFE)

    def _found(self, places: list[str]) -> list[str]:
        self.known = frozenset(places) - {self.me}
        return self._living(places)

    def _living(self, places: Any) -> list[str]:
        return [place for place in {self.me, *places} if not self.is_shunned(place)]

    def _resolve(self, done: Callable[[list[str]], Any]) -> None:
        if self._name is None or monotonic() - self._named_at < NAMED:
            done(self._living(self._named))
            return
        self._wanted.append(done)
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._ask_names())

    async def _ask_names(self) -> None:
        assert self._name is not None
        loop, port = asyncio.get_running_loop(), self._name.port
        found: set[str] = set()
        for name in self._name.host.split(","):
            try:
                async with asyncio.timeout(1.0):
                    told = await loop.getaddrinfo(name, port, type=1)
            except (OSError, TimeoutError, UnicodeError):
                continue
            found |= {str(Address(str(place[0]), port)) for *_, place in told}
        if found:
            self._named = sorted(found)
        self._named_at = monotonic()
        self._looking = None
        wanted, self._wanted = self._wanted, []
        for done in wanted:
            done(self._living(self._named))

    async def stay_present(self) -> None:
        """Say that this one lives, for as long as it holds sessions."""
        while True:
            if self._are_needed():
                self.look(lambda _: None)
            await asyncio.sleep(HEARTBEAT)

    def leave(self) -> None:
        """This one ends: it is no heir any more."""
        if self._link is not None and self._link.up:
            self._link.send(lambda _: None, b"ZREM", self._link.prefix + b"peers", self.me.encode())

    def sweep(self, now: float) -> None:
        """Timeouts of what peers are asked; forget those who are not asked any more."""
        for place, pool in list(self._pools.items()):
            pool.sweep(now)
            if not len(pool) and now - pool.used > FORGOTTEN:
                del self._pools[place]
        self._go_on()

    async def close(self) -> None:
        """Close every connection."""
        if self._looking is not None:
            self._looking.cancel()
        for pool in self._pools.values():
            await pool.close()

    def __repr__(self) -> str:
        return f"<Peers {len(self._pools)} asked, {len(self._shunned)} shunned>"


def _idle(pool: PeerPool) -> int:
    return pool.idle
