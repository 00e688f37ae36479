"""Limits that all replicas share, in Redis: judged and taken there in one script, on its clock."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Callable, Sequence
from itertools import islice
from time import monotonic, time
from typing import Any, Final, Literal

from mcpace_sidecar.contract.scripts import GIVE, PRESENT, TAKE
from mcpace_sidecar.errors import StoreError
from mcpace_sidecar.limits.bucket import DAY, UNASKED, Charges, Verdict
from mcpace_sidecar.limits.lease import LIFE, REFUSAL_LIFE, Lease
from mcpace_sidecar.limits.memory import MemoryLimits
from mcpace_sidecar.limits.store import LimitStore
from mcpace_sidecar.redis.link import Link

PRESENCE_INTERVAL: Final = 5.0
PRESENCE_LIFE: Final = 15
"""Seconds after which a silent replica no longer counts."""

_FACTS: Final = 5
"""Numbers of a judgement before what is left of each charge."""
ACCOUNTS = 10_000
"""Kinds of calls that are held at most: beyond, the oldest ask Redis anew."""
_SOON: Final = 1000
"""Microseconds: a refusal that ends sooner is not worth remembering."""

WhenDown = Literal["local", "open", "closed"]


class _Account:
    """One `Charges`, with the lease on it and the arguments of its scripts."""

    __slots__ = ("arguments", "asked_at", "keys", "lease", "midnight", "used_at", "waiting")

    def __init__(self, charges: Charges, prefix: bytes) -> None:
        self.lease = Lease(charges)
        self.keys = [prefix + charge.key.encode() for charge in charges.items]
        self.arguments: list[bytes] = []
        for charge in charges.items:
            self.arguments += [b"%d" % number for number in (charge.rate, charge.capacity, charge.amount)]
        self.midnight = 0
        """The end of the UTC day the lease was taken on, in Redis's seconds."""
        self.used_at = self.asked_at = 0.0
        self.waiting: list[Callable[[Verdict], None]] = []
        """Those who wait for the question that this tick will ask."""


class RedisLimits(LimitStore):
    """Levels in Redis. `leasing`: take tokens of busy clients ahead; otherwise each call asks."""

    def __init__(self, link: Link, when_down: Callable[[], WhenDown], *, leasing: bool = True) -> None:
        self.link = link
        self.local = MemoryLimits()
        self.trips = 0
        """Scripts run: what leases save."""
        self.decided_without: dict[str, int] = {"local": 0, "open": 0, "closed": 0}
        self._leasing = leasing
        self._when_down = when_down
        self._accounts: dict[Charges, _Account] = {}
        self._midnight = 0
        """The end of the UTC day, as Redis has last said it, in its seconds."""
        self._settled_at = 0.0
        """What began before is not given back: Redis did not judge it, or a day has begun since."""
        link.on_up = self._accounts.clear  # a Redis that was gone may have forgotten everything
        self._self = f"{os.uname().nodename}-{uuid.uuid4().hex[:8]}".encode()

    @property
    def replicas(self) -> int:
        """How many replicas share the limits, as last heard."""
        return self.local.replicas

    def take(self, charges: Charges) -> Verdict | None:
        """Take all charges or none of what is leased; without Redis, as the manifest chose."""
        if not self.link.up:
            return self._without(charges)
        account = self._account(charges)
        lease = account.lease
        now = account.used_at = monotonic()
        if lease.refused_until > now:
            charge = charges.items[lease.kind]
            return Verdict(False, lease.left, time(), lease.retry_at - now, charge.kind)
        if lease.use(now):
            if lease.low and not lease.asking:
                lease.grow(self.replicas)
                self._ask(account, lease.size, ())
            for index, charge in enumerate(charges.items):
                lease.left[index] -= charge.amount
            return Verdict(True, lease.left, time())
        return None

    def ask(self, charges: Charges, done: Callable[[Verdict], None]) -> None:
        """Take them in Redis, together with all that are asked for in this tick."""
        account = self._account(charges)
        lease, now = account.lease, account.used_at
        if now - account.asked_at < LIFE:
            lease.grow(self.replicas)
        account.asked_at = now
        account.waiting.append(done)
        if len(account.waiting) == 1:
            self.link.defer(lambda: self._ask_for_waiting(account))

    def give(self, charges: Charges, since: float) -> None:
        """Give back what one call took: to the lease if there is one, else to Redis.

        Where a store may not have counted it, or may have forgotten it, nothing is given back.
        """
        if since <= max(self.link.changed_at, self._settled_at):
            return
        if not self.link.up:
            self.local.give(charges)
            return
        account = self._accounts.get(charges)
        if account is None:  # it has been quiet since
            account = _Account(charges, self.link.prefix)
        if account.lease.use_again(monotonic()):
            account.lease.left = _after(account.lease.left, charges, -1)
        else:
            self._return(account, 1, self._midnight)

    def look(self, charges: Charges, done: Callable[[list[float] | None], None]) -> None:
        """Take no call of them: Redis tells what is left all the same."""
        if not self.link.up:
            self.local.look(charges, done)
            return

        def answered(answer: Any) -> None:
            judged = _is_judged(answer, charges)
            done([thousandths / 1000 for thousandths in answer[_FACTS:]] if judged else None)

        account = _Account(charges, self.link.prefix)
        self.link.run(answered, TAKE, account.keys, b"0", *account.arguments)

    def reset(self, charges: Charges, done: Callable[[bool], None]) -> None:
        """Give back as much as fits, here and in Redis; what was leased from them is asked for anew."""
        keys = {charge.key for charge in charges.items}
        for held in list(self._accounts):
            if not keys.isdisjoint([charge.key for charge in held.items]):
                self._give_back(self._accounts.pop(held))
        self.local.reset(charges, _unheard)
        if not self.link.up:
            done(False)
            return
        most = max([charge.capacity for charge in charges.items])
        account = _Account(charges, self.link.prefix)
        arguments = [b"%d" % most, *account.arguments, b"%d" % (int(time()) + 2 * int(DAY))]
        self.link.run(lambda answer: done(answer == 0), GIVE, account.keys, *arguments)

    def _account(self, charges: Charges) -> _Account:
        account = self._accounts.get(charges)
        if account is None:
            self._make_room()
            account = self._accounts[charges] = _Account(charges, self.link.prefix)
        return account

    def _ask_for_waiting(self, account: _Account) -> None:
        """Ask once for all the calls of this tick, and for those to come where they may be leased."""
        lease = account.lease
        waiting, account.waiting = account.waiting, []
        ahead = lease.size if self._leasing and not lease.asking else 1
        self._ask(account, max(len(waiting), ahead), waiting)

    def _ask(self, account: _Account, calls: int, waiting: Sequence[Callable[[Verdict], None]]) -> None:
        """Take some calls: the first are for those who wait to be told, the others ahead."""
        lease = account.lease
        asked = monotonic()
        if not waiting:
            lease.asking = True
        self.trips += 1

        def answered(answer: Any) -> None:
            if not waiting:
                lease.asking = False
            if not _is_judged(answer, lease.charges):
                self._settled_at = monotonic()
                for done in waiting:
                    done(self._without(lease.charges))
                return
            granted, wait, index, left_of_day, midnight = answer[:_FACTS]
            left = [thousandths / 1000 for thousandths in answer[_FACTS:]]
            now, at = monotonic(), time()
            spare = max(0, granted - len(waiting))
            if self._midnight and midnight != self._midnight:
                self._settled_at = asked
            self._midnight = midnight
            if spare:
                if lease.ends <= now:
                    self._give_back(account)
                account.midnight = midnight
                # What is leased counts as left: nobody else can use it.
                lease.granted(
                    spare, _after(left, lease.charges, -spare), asked + min(LIFE, left_of_day / 1e6)
                )
                if self._accounts.get(lease.charges) is not account:  # it was forgotten meanwhile
                    self._give_back(account)
            elif granted < len(waiting):
                lease.left, lease.kind = left, index - 1
                if wait > _SOON:
                    lease.retry_at = now + wait / 1e6
                    lease.refused_until = min(lease.retry_at, now + REFUSAL_LIFE)
            elif granted:
                lease.refused_until = 0.0
            for number, done in enumerate(waiting):
                if number < granted:
                    done(Verdict(True, _after(left, lease.charges, number + 1 - granted), at))
                else:
                    done(Verdict(False, left, at, wait / 1e6, lease.charges.items[index - 1].kind))

        self.link.run(answered, TAKE, account.keys, b"%d" % calls, *account.arguments)

    def _without(self, charges: Charges) -> Verdict:
        mode = self._when_down()
        self.decided_without[mode] += 1
        if mode == "open":
            return UNASKED
        if mode == "closed":
            return Verdict(False, None, 0.0, 1.0)
        return self.local.take(charges)

    def sweep(self, now: float) -> None:
        """Give back what was leased and not used; forget accounts gone quiet. Twice a second."""
        for charges, account in list(self._accounts.items()):
            lease = account.lease
            if lease.calls and lease.ends <= now:
                self._give_back(account)
            held = lease.calls or lease.asking or account.waiting or lease.refused_until > now
            if not held and now - account.used_at > LIFE:
                del self._accounts[charges]

    def _make_room(self) -> None:
        """Forget the oldest sixteenth where there are many: what they leased goes back."""
        if len(self._accounts) >= ACCOUNTS:
            for charges in list(islice(self._accounts, max(1, ACCOUNTS // 16))):
                self._give_back(self._accounts.pop(charges))

    def _give_back(self, account: _Account) -> None:
        unused = account.lease.shrink()
        if unused and self.link.up:
            self._return(account, unused, account.midnight)

    def _return(self, account: _Account, calls: int, midnight: int) -> None:
        arguments = [b"%d" % calls, *account.arguments, b"%d" % midnight]
        self.link.run(lambda _: None, GIVE, account.keys, *arguments)

    def __repr__(self) -> str:
        return f"<RedisLimits {len(self._accounts)} accounts, {self.trips} trips, {self.replicas} replicas>"

    def __len__(self) -> int:
        return len(self._accounts) + len(self.local)

    async def stay_present(self) -> None:
        """Count the live replicas, this one among them, so that each knows its share."""

        def counted(answer: Any) -> None:
            if isinstance(answer, int):
                self.local.replicas = max(1, answer)

        while True:
            key = self.link.prefix + b"replicas"
            self.link.run(counted, PRESENT, [key], self._self, b"%d" % PRESENCE_LIFE)
            await asyncio.sleep(PRESENCE_INTERVAL)

    async def leave(self) -> None:
        """This replica ends: what it leased goes back, and the others' shares grow."""
        for account in self._accounts.values():
            self._give_back(account)
        try:
            await self.link.ask(b"ZREM", self.link.prefix + b"replicas", self._self)
        except StoreError:
            return  # it counts for a few seconds more


def _after(left: Sequence[float], charges: Charges, calls: int) -> list[float]:
    """What is left of each charge after so many more calls; before them, where it is negative."""
    return [level - calls * charge.amount for level, charge in zip(left, charges.items, strict=True)]


def _unheard(_: bool) -> None:
    """Nobody waits for it."""


def _is_judged(answer: Any, charges: Charges) -> bool:
    """Whether Redis has judged these charges: what answers otherwise, or not at all, has judged nothing."""
    most = len(charges.items)
    return (
        isinstance(answer, list)
        and len(answer) == _FACTS + most
        and all(isinstance(number, int) for number in answer)
        and 0 <= answer[2] <= most
    )
