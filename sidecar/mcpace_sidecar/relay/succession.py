"""Who begins a lost session again: of all replicas one, and every one finds the same."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from itertools import chain
from time import monotonic
from typing import Any, Final

from mcpace_sidecar.errors import UpstreamError
from mcpace_sidecar.http.fetch import Fetch
from mcpace_sidecar.relay import peer
from mcpace_sidecar.relay.peers import Peers
from mcpace_sidecar.sessions.heir import ranked
from mcpace_sidecar.sessions.record import Found, Records
from mcpace_sidecar.sessions.revival import Claims, Loss
from mcpace_sidecar.sessions.sealing import UNBOUND
from mcpace_sidecar.sessions.session import Revived, Session
from mcpace_sidecar.sessions.table import RENEWED, Table

_ADOPTION: Final = 20.0
"""Seconds that a peer may take to begin a session again."""
_KNOWING: Final = 1.0
"""Seconds that a peer may take to say whether it has one."""
_AT_ONCE: Final = 64
"""Peers that are asked at a time: each occupies a connection while it begins a session."""


class Asking:
    """The asking of heirs for one session, which ends when it is this replica that is asked."""

    def __init__(self, *, down: bool) -> None:
        """`down`: whether this replica's own server is not there."""
        self.down = down
        self.taken: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Succession(Claims):
    """Asks the heirs by rank, and claims a session where it is for this replica."""

    def __init__(self, table: Table, records: Records, peers: Peers, is_ready: Callable[[], bool]) -> None:
        """`is_ready`: whether this replica can take sessions over."""
        self._table = table
        self._records = records
        self._peers = peers
        self._is_ready = is_ready
        self._since = monotonic()
        self._asking: dict[bytes, Asking] = {}
        self._at_once = asyncio.Semaphore(_AT_ONCE)

    async def find(self, session: Session, loss: Loss) -> Revived | None:
        """What became of it elsewhere; None: it is for this replica to begin it again."""
        if self._has_moved(session, loss):
            return Revived(again=True)
        found: Found = await _told(functools.partial(self._records.read, session.key))
        if found.ended:
            return Revived()
        if found.record is not None and not self._table.follow(session, found.record):
            self._table.recall(session, found.record)
        if self._has_moved(session, loss):
            return Revived(again=True)
        if loss.adopts:
            return None
        if found.record is None or not found.asked:  # nobody has said so, but somebody may have it
            held = await self._find_holder(session, loss)
            if held is not None:
                return held
        if session.binding not in (UNBOUND, loss.binding):
            return Revived(denied=loss.binding)
        if loss.down or not session.here:
            became = await self._ask_heirs(session, loss)
            if became is not None or loss.reason != peer.DRAINED:
                return became
            return Revived(again=True)  # nobody takes it, and here it lives
        return None

    async def claim(self, session: Session, loss: Loss) -> int | Revived:
        """The epoch under which this replica begins it again; or what became of it meanwhile."""
        if self._has_moved(session, loss):
            return Revived(again=True)
        table = self._table
        mine = table.record(session)._replace(owner=table.owner)
        seen = session.owner, session.epoch
        found: Found = await _told(functools.partial(self._records.claim, session.key, seen, mine))
        record = found.record
        if found.ended or record is None:
            return Revived()
        if record.owner != table.owner:
            table.follow(session, record)
            return Revived(again=True)
        table.recall(session, record)
        return record.epoch

    async def keep(self, session: Session, inner: bytes, epoch: int) -> bool:
        """Say that it has been begun again; whether it is still this replica's."""
        table = self._table
        mine = table.record(session)._replace(owner=table.owner, epoch=epoch, inner=inner)
        is_ours = await _told(functools.partial(self._records.write, session.key, mine))
        if is_ours is None:
            session.renewed = -RENEWED  # said again with the next sweep
        if is_ours is not False:
            return True
        found: Found = await _told(functools.partial(self._records.read, session.key))
        if found.record is not None:
            table.follow(session, found.record)
        return False

    def is_asking(self, session: Session) -> bool:
        """Whether heirs are asked for it, and this replica cannot be one."""
        asking = self._asking.get(session.key)
        return asking is not None and asking.down

    def take(self, session: Session) -> None:
        """This replica is asked itself: heirs are not asked any more."""
        asking = self._asking.get(session.key)
        if asking is not None and not asking.taken.done():
            asking.taken.set_result(None)

    @staticmethod
    def _has_moved(session: Session, loss: Loss) -> bool:
        """Whether it goes on elsewhere, or again, since the loss was seen."""
        later = session.epoch > loss.epoch or session.owner.place != loss.place
        return later and (not session.here or session.inner != b"")

    async def _ask_heirs(self, session: Session, loss: Loss) -> Revived | None:
        """What became of it at one of those who come before this replica; None: it is this one's to do."""
        asking = self._asking[session.key] = Asking(down=loss.down)
        try:
            me = self._table.owner.place
            places = ranked(session.key, await _told(self._peers.look))
            if loss.down or not self._is_ready():
                places = [place for place in places if place != me]  # but where there is nobody else
            elders: list[str] = []
            younger = loss
            if loss.reason == peer.DRAINED:
                younger = loss._replace(reason=f"{loss.reason} {monotonic() - self._since:.0f}")
            asked = chain(((place, younger) for place in places), ((place, loss) for place in elders))
            for place, why in asked:
                if place == me or asking.taken.done():
                    break
                if place == loss.place or self._peers.is_shunned(place):
                    continue
                said = await self._ask_unless(asking, place, session, why)
                if said == peer.ENDED:
                    return Revived()
                if said == peer.ELDER:
                    elders.append(place)
                moved = peer.whose(said)
                if moved is not None:
                    self._table.move(session, *moved)
                if self._has_moved(session, loss):
                    return Revived(again=True)
            return None
        finally:
            del self._asking[session.key]

    async def _ask_unless(self, asking: Asking, place: str, session: Session, loss: Loss) -> bytes:
        """Ask an heir, but not for longer than until this replica is asked."""
        async with self._at_once:
            asked = asyncio.get_running_loop().create_task(self._ask(place, session, loss, _ADOPTION))
            try:
                waited: set[asyncio.Future[Any]] = {asked, asking.taken}
                await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
                return asked.result() if asked.done() else peer.UNREADY
            finally:
                asked.cancel()

    async def _find_holder(self, session: Session, loss: Loss) -> Revived | None:
        """Whether a peer has taken it over already."""
        me = self._table.owner.place
        places = [each for each in await _told(self._peers.look) if each != me]
        asks = loss._replace(lines=b"Host: relay\r\n", binding=b"", reason=peer.ASKS)
        for said in await asyncio.gather(*(self._ask(place, session, asks, _KNOWING) for place in places)):
            if said == peer.ENDED:
                return Revived()
            moved = peer.whose(said)
            if moved is not None and (moved[0].place, moved[1]) == (loss.place, loss.epoch):
                return Revived(again=True)  # it was only out of reach
            if moved is not None:
                self._table.move(session, *moved)
        return Revived(again=True) if self._has_moved(session, loss) else None

    async def _ask(self, place: str, session: Session, loss: Loss, patience: float) -> bytes:
        seen = session.owner, session.epoch
        request = peer.adoption(loss.target, loss.lines, session.id, seen, loss.binding, loss.reason)
        try:
            head, _ = await Fetch().from_pool(self._peers.pool(place), request, patience)
        except UpstreamError:
            return peer.UNREADY
        return head.get(peer.VERDICT) or peer.UNREADY


async def _told(ask: Callable[[Callable[[Any], Any]], Any]) -> Any:
    """What is told to a callback."""
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def told(answer: Any) -> None:
        if not future.done():
            future.set_result(answer)

    ask(told)
    return await future
