"""Who begins a lost session again: of all replicas one, and every one finds the same."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any, Final

from mcpace_sidecar.errors import UpstreamError
from mcpace_sidecar.http.fetch import Fetch
from mcpace_sidecar.relay import peer
from mcpace_sidecar.relay.peers import Peers
from mcpace_sidecar.sessions.heir import ranked
from mcpace_sidecar.sessions.record import Found, Records
from mcpace_sidecar.sessions.revival import Claims, Loss
from mcpace_sidecar.sessions.sealing import UNBOUND, Owner
from mcpace_sidecar.sessions.table import Revived, Session, Table

_ADOPTION: Final = 20.0
"""Seconds that a peer may take to begin a session again."""


class Succession(Claims):
    """Asks the heirs by rank, and claims a session where it is for this replica."""

    def __init__(self, table: Table, records: Records, peers: Peers, is_ready: Callable[[], bool]) -> None:
        """`is_ready`: whether this replica can take sessions over."""
        self._table = table
        self._records = records
        self._peers = peers
        self._is_ready = is_ready

    async def settle(self, session: Session, loss: Loss) -> int | Revived:
        """The epoch under which it is for this replica to do; or what became of it, elsewhere."""
        table, before = self._table, session.epoch
        seen = session.owner, session.epoch
        found: Found = await _told(functools.partial(self._records.read, session.key))
        if found.ended:
            return Revived()
        record = found.record
        if record is not None:
            if table.follow(session, record) and (session.inner or not session.here):
                return Revived(again=True)
            if record.epoch >= before:
                table.recall(session, record)
                seen = record.owner, record.epoch
        elif not loss.adopts and (found.asked or not session.here):  # somebody may have it
            held = await self._find_holder(session, seen, loss.target)
            if held is not None:
                return held
        if not loss.adopts:
            if session.binding not in (UNBOUND, loss.binding):
                return Revived(denied=loss.binding)
            if loss.down or not session.here:
                elsewhere = await self._ask_heirs(session, seen, loss)
                if elsewhere is not None:
                    return elsewhere
                if loss.reason == peer.DRAINED:
                    return Revived(again=True)  # nobody takes it, and here it lives
        mine = table.record(session)._replace(owner=table.owner)
        claim = functools.partial(self._records.claim, session.key, seen, mine)
        found = await _told(claim)
        if found.ended or found.record is None:
            return Revived()
        if found.record.owner != table.owner:
            table.follow(session, found.record)
            return Revived(again=True)
        table.recall(session, found.record)
        return found.record.epoch

    async def _ask_heirs(self, session: Session, seen: tuple[Owner, int], loss: Loss) -> Revived | None:
        """What became of it at one of those who come before this replica; None: it is this one's to do."""
        me = self._table.owner.place
        places = ranked(session.key, await _told(self._peers.look))
        if loss.down or not self._is_ready():
            places = [place for place in places if place != me]  # but where there is nobody else
        for place in places:
            if place == me:
                return None
            if place == seen[0].place or self._peers.is_shunned(place):
                continue
            said = await self._ask(place, session, seen, loss)
            if said == peer.ENDED:
                return Revived()
            moved = peer.whose(said)
            if moved is not None and self._table.move(session, *moved):
                return Revived(again=True)
        return None

    async def _find_holder(
        self, session: Session, seen: tuple[Owner, int], target: bytes
    ) -> Revived | None:
        """Whether a peer has taken it over already."""
        me = self._table.owner.place
        places = [each for each in await _told(self._peers.look) if each != me]
        loss = Loss(target, b"Host: relay\r\n", b"", peer.ASKS)
        for said in await asyncio.gather(*(self._ask(place, session, seen, loss) for place in places)):
            if said == peer.ENDED:
                return Revived()
            moved = peer.whose(said)
            if moved is not None and self._table.move(session, *moved):
                return Revived(again=True)
        return None

    async def _ask(self, place: str, session: Session, seen: tuple[Owner, int], loss: Loss) -> bytes:
        request = peer.adoption(loss.target, loss.lines, session.id, seen, loss.binding, loss.reason)
        try:
            head, _ = await Fetch().from_pool(self._peers.pool(place), request, _ADOPTION)
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
