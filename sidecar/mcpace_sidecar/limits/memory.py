"""Levels in this process: exact alone, forgotten at its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import time

from mcpace_sidecar.bounded import SWEPT, Round
from mcpace_sidecar.limits.bucket import DAY, MINUTE, Charges, Level, Verdict, refusal, share
from mcpace_sidecar.limits.store import LimitStore

LEVELS = 100_000
"""Buckets and quotas that are held at most."""
_LOOKED_AT = 256
"""Levels of which the least used are forgotten where there is no room."""
_FORGOTTEN = 32


class MemoryLimits(LimitStore):
    """Levels in a dict. `clock` gives seconds since the epoch; `replicas` share every limit."""

    def __init__(self, clock: Callable[[], float] = time) -> None:
        self.replicas = 1
        self._clock = clock
        self._levels: dict[str, Level] = {}
        self._round = Round(self._levels)

    def take(self, charges: Charges) -> Verdict:
        """Take all charges or none."""
        now = self._clock()
        levels = charges.levels
        if charges.keeper is not self or _lacks_one(levels):
            self._make_room(len(charges.items), now)
            levels = charges.levels = self._find(charges, now)
            charges.keeper = self
        alone = self.replicas == 1
        fits = True
        for index, charge in enumerate(charges.items):
            level = levels[index]
            level.advance(charge, charge.capacity if alone else share(charge, self.replicas), now)
            if level.left < charge.amount:
                fits = False
        if not fits:
            return refusal(levels, charges)
        left = []
        for index, charge in enumerate(charges.items):
            level = levels[index]
            level.left -= charge.amount
            left.append(level.left)
        return Verdict(True, left, now)

    def give(self, charges: Charges, since: float = 0.0) -> None:
        """Give back what one call took; a bucket holds no more than it can."""
        del since  # it was taken here
        for charge in charges.items:
            level = self._levels.get(charge.key)
            if level is not None:
                level.left = min(float(level.capacity), level.left + charge.amount)

    def look(self, charges: Charges, done: Callable[[list[float] | None], None]) -> None:
        """Tell what is left of each."""
        now = self._clock()
        left = []
        for charge in charges.items:
            capacity = share(charge, self.replicas)
            level = self._levels.get(charge.key)
            if level is not None:
                level.advance(charge, capacity, now)
            left.append(level.left if level is not None else float(capacity))
        done(left)

    def reset(self, charges: Charges, done: Callable[[bool], None]) -> None:
        """Make each whole again."""
        self._forget([charge.key for charge in charges.items if charge.key in self._levels])
        done(True)

    def _find(self, charges: Charges, now: float) -> tuple[Level, ...]:
        levels = []
        for charge in charges.items:
            level = self._levels.get(charge.key)
            if level is None:
                level = self._levels[charge.key] = Level(share(charge, self.replicas), now, charge.pace)
            levels.append(level)
        return tuple(levels)

    def _make_room(self, more: int, now: float) -> None:
        """Of the next levels of the round, forget what is full again and some of which least was used.

        So whoever comes with ever new names takes nothing from those who are near their limit.
        """
        while len(self._levels) + more > LEVELS:
            by_use = sorted((self._levels[key].used(now), key) for key in self._round.some(_LOOKED_AT))
            self._forget([key for at, (used, key) in enumerate(by_use) if used <= 0 or at < _FORGOTTEN])

    def sweep(self) -> None:
        """Forget full buckets and the quotas of days past, of the next levels of the round."""
        now = self._clock()
        stale = []
        for key in self._round.some(SWEPT):
            level = self._levels[key]
            if (
                level.at // DAY != now // DAY
                if level.pace == 0.0
                else (now - level.at) * level.pace > MINUTE
            ):
                stale.append(key)
        if stale:
            self._forget(stale)

    def _forget(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._levels.pop(key).forgotten = True  # whoever calls again looks for its levels again

    def __len__(self) -> int:
        return len(self._levels)

    def __repr__(self) -> str:
        return f"<MemoryLimits {len(self._levels)}/{LEVELS} levels, {self.replicas} replicas>"


def _lacks_one(levels: tuple[Level, ...]) -> bool:
    """Whether any of these was forgotten."""
    for level in levels:  # noqa: SIM110 - because each call comes here, and this is many times faster
        if level.forgotten:
            return True
    return False
