"""What clients have left of their limits, and how one has all of them again: for people, when they ask."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final

from mcpace_sidecar.admin.reports import Store
from mcpace_sidecar.call.plane import Plane
from mcpace_sidecar.contract.report import ClientLeft, ClientsLeft, Left
from mcpace_sidecar.limits.bucket import DAY, MINUTE, Charge, Charges
from mcpace_sidecar.limits.plan import LimitPlan

MOST: Final = 100
"""Clients that are told of."""
_LOOKED_AT: Final = 1000
"""Clients of which these are chosen."""
_AT_ONCE: Final = 32
"""Limits of one question: a function in Redis takes some dozens."""


class Clients:
    """Answers what is asked about them."""

    def __init__(self, plane: Plane, links: Sequence[Store]) -> None:
        self._plane = plane
        self._links = links

    async def left(self, name: str | None) -> ClientsLeft:
        """What one client has left, of every tier that it was counted in; or all of whom it is known."""
        settings = self._plane.settings
        plan = settings.limits
        if plan is None:
            return ClientsLeft(limited=False)
        known = {
            (client.name, plan.tier(client))
            for client in settings.identities.clients()
            if name in (None, client.name) and plan.has_counted(client)
        }
        asked = sorted(known) if name is None else [(name, tier) for tier in plan.tiers]
        told = await asyncio.gather(*(self._look(plan, *each) for each in islice(asked, _LOOKED_AT)))
        found = [each for each in told if name is None or (each.client, each.tier) in known or _used(each)]
        found.sort(key=_used, reverse=True)
        more = len(asked) - MOST if name is None else 0
        return ClientsLeft(tuple(found[:MOST]), more=max(0, more), shared=self._is_shared)

    async def reset(self, name: str) -> bool:
        """Give a client all of its limits again, in whatever tier; whether that was done."""
        plan, prices = self._plane.settings.limits, self._plane.settings.policies.prices
        assert plan is not None
        done: list[asyncio.Future[bool]] = []
        for tier in plan.tiers:
            for charges in _pieces([charge for _, charge in plan.alone(name, tier, prices)]):
                done.append(asyncio.get_running_loop().create_future())
                self._plane.limits.reset(charges, functools.partial(_resolve, done[-1]))
        return all(await asyncio.gather(*done))

    @property
    def _is_shared(self) -> bool:
        return any(link.name == "limits" and link.up for link in self._links)

    async def _look(self, plan: LimitPlan, name: str, tier: str) -> ClientLeft:
        named = plan.alone(name, tier, self._plane.settings.policies.prices)
        asked: list[asyncio.Future[list[float] | None]] = []
        for charges in _pieces([charge for _, charge in named]):
            asked.append(asyncio.get_running_loop().create_future())
            self._plane.limits.look(charges, functools.partial(_resolve, asked[-1]))
        left = [level for levels in await asyncio.gather(*asked) for level in levels or ()]
        if len(left) < len(named):  # Redis went away meanwhile
            return ClientLeft(name, tier, ())
        now = time.time()
        each = zip(named, left, strict=True)
        return ClientLeft(
            name, tier, tuple(_told(what, charge, level, now) for (what, charge), level in each)
        )


def _resolve(future: asyncio.Future[Any], answer: Any) -> None:
    if not future.done():
        future.set_result(answer)


def _told(what: str, charge: Charge, level: float, now: float) -> Left:
    level = max(0.0, level)
    missing = max(0.0, charge.capacity - level)
    wait = missing * MINUTE / charge.rate if charge.rate else DAY - now % DAY if missing else 0.0
    return Left(what, charge.capacity, round(level, 3), round(wait, 1))


def _used(client: ClientLeft) -> float:
    """The part that is used of what is nearest to its end."""
    return max((1 - each.left / each.of for each in client.limits), default=0.0)


def _pieces(charges: Iterable[Charge]) -> Iterator[Charges]:
    rest = iter(charges)
    while piece := tuple(islice(rest, _AT_ONCE)):
        yield Charges(piece)
