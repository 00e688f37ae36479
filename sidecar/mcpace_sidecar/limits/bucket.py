"""The arithmetic of token buckets and day quotas; no clock, no I/O.

A bucket of `capacity` tokens refills evenly, `rate` tokens a minute; a quota of `capacity`, which has
no rate, starts anew at each UTC midnight. All charges of one call are taken, or none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

MINUTE: Final = 60.0
DAY: Final = 86_400.0

Kind = str
"""What a limit is called: minute, day, or what is called (`mcp.methods`: tool, prompt, resource)."""


class Charge:
    """What one call takes from one bucket or quota."""

    __slots__ = ("amount", "capacity", "key", "kind", "pace", "rate")

    def __init__(
        self, key: str, kind: Kind, capacity: int, amount: int = 1, *, rate: int | None = None
    ) -> None:
        """`rate`: what refills it, in tokens a minute; the capacity, unless it is the quota of a day."""
        self.key = key
        self.kind: Kind = kind
        self.capacity = capacity
        self.amount = amount
        self.rate = rate if rate is not None else 0 if kind == "day" else capacity
        """0: a quota."""
        self.pace: float = self.rate / capacity
        """How often it is refilled in a minute."""

    def __repr__(self) -> str:
        return f"<Charge {self.amount} of {self.capacity} ({self.key})>"


class Charges:
    """Everything one call takes: one object for each client and kind of call, made once."""

    __slots__ = ("items", "keeper", "levels", "names")

    def __init__(self, items: Sequence[Charge], like: Charges | None = None) -> None:
        """`like`: another client's on the same terms, which are put into the same words."""
        self.items = tuple(items)
        self.keeper: object = None
        self.levels: tuple[Level, ...] = ()
        """Where the keeper has what is left of each; it looks for them again where one was forgotten."""
        if like is not None:
            self.names: list[bytes] = like.names
            return
        policies = ", ".join(_policy(charge) for charge in self.items)
        begin = f"RateLimit-Policy: {policies}\r\nRateLimit: "
        self.names = [
            f'{begin if n == 0 else ", "}"{charge.kind}";r='.encode() for n, charge in enumerate(self.items)
        ]

    def lines(self, left: list[float], now: float) -> bytes:
        """The header lines that tell a client what is left, and in how many seconds it is refilled.

        Source: draft-ietf-httpapi-ratelimit-headers-10.
        """
        lines = b""
        for index, charge in enumerate(self.items):
            tokens = left[index]
            if charge.rate == 0:
                seconds = DAY - now % DAY
            else:
                seconds = (charge.capacity - tokens) * MINUTE / charge.rate + 0.999
            lines = b"%b%b%d;t=%d" % (lines, self.names[index], int(max(tokens, 0.0)), int(seconds))
        return lines + b"\r\n"

    def __repr__(self) -> str:
        return f"<Charges {self.items}>"


class Verdict:
    """Whether a call may go on, and if not, when."""

    __slots__ = ("allowed", "at", "kind", "left", "retry_after")

    def __init__(
        self, allowed: bool, left: list[float] | None, at: float, retry_after: float = 0.0,
        kind: Kind | None = None,
    ) -> None:  # fmt: skip
        self.allowed = allowed
        self.left = left
        """What is left of each charge; None where no limit was asked."""
        self.at = at
        """When it was judged, in seconds since the epoch."""
        self.retry_after = retry_after
        """Seconds until the same call would be allowed, if no other came first."""
        self.kind: Kind | None = kind
        """The limit that refused: the one that takes longest to allow the call again."""

    def __repr__(self) -> str:
        return "<allowed>" if self.allowed else f"<refused by {self.kind} for {self.retry_after:.3f} s>"


def _policy(charge: Charge) -> str:
    window = MINUTE / charge.pace if charge.rate else DAY
    return f'"{charge.kind}";q={charge.capacity};w={window:.0f}'


UNASKED: Final = Verdict(allowed=True, left=None, at=0.0)


class Level:
    """What is left in a bucket or quota, at a time in seconds since the epoch."""

    __slots__ = ("at", "capacity", "forgotten", "left", "midnight", "pace")

    def __init__(self, capacity: int, at: float, pace: float) -> None:
        self.forgotten = False
        """Whether its keeper has it no more."""
        self.capacity = capacity
        self.pace = pace
        """0.0: a quota."""
        self.left = float(capacity)
        self.at = at
        self.midnight = at - at % DAY + DAY

    def advance(self, charge: Charge, capacity: int, now: float) -> None:
        """Refill up to `now`, under a capacity that may have changed.

        A bucket keeps its tokens, a quota what was used of it. A clock that goes back refills
        nothing.
        """
        pace = charge.pace
        if pace == 0.0:
            if capacity != self.capacity:
                self.left += capacity - self.capacity
            if now >= self.midnight:
                self.left = float(capacity)
                self.midnight = now - now % DAY + DAY
        else:
            left = self.left
            if now > self.at:
                left += (now - self.at) * capacity * pace / MINUTE
            self.left = left if left < capacity else float(capacity)
        self.capacity = capacity
        self.pace = pace
        self.at = max(self.at, now)

    def wait(self, charge: Charge) -> float:
        """Seconds until the charge fits; 0 if it fits now. The level must have been advanced."""
        missing = charge.amount - self.left
        if missing <= 0:
            return 0.0
        if charge.rate == 0:
            return DAY - self.at % DAY
        return missing * MINUTE / (self.capacity * charge.pace)

    def used(self, now: float) -> float:
        """The part that is used now; 0 or less: a new one would be the same."""
        if self.pace == 0.0:
            return 1 - self.left / self.capacity if now < self.midnight else 0.0
        return 1 - self.left / self.capacity - (now - self.at) * self.pace / MINUTE


def refusal(levels: Sequence[Level], charges: Charges) -> Verdict:
    """The verdict where at least one of the charges does not fit."""
    waits = [level.wait(charge) for level, charge in zip(levels, charges.items, strict=True)]
    longest = max(waits)
    left = [level.left for level in levels]
    return Verdict(False, left, levels[0].at, longest, charges.items[waits.index(longest)].kind)


def share(charge: Charge, replicas: int) -> int:
    """One replica's part of a limit; never less than the call itself."""
    return max(charge.amount, charge.capacity // max(1, replicas))
