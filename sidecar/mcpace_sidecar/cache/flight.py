"""Identical calls in flight: one asks the server, the others wait for its result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from mcpace_sidecar.cache.entry import Entry


class Follower(Protocol):
    """A call that waits for another."""

    ended: bool

    def landed(self, entry: Entry | None) -> None:
        """The leader's result, or None: it has none that others may have; ask yourself."""

    def abandoned(self) -> None:
        """The leader leads no more: look again, and lead or follow anew."""


class Flights:
    """Who leads and who follows, by the key of the result."""

    def __init__(self) -> None:
        self._waiting: dict[bytes, dict[Follower, None]] = {}  # in the order they came

    def join(self, key: bytes, call: Follower) -> bool:
        """Follow the call in flight under this key; False: there is none, so lead."""
        waiting = self._waiting.get(key)
        if waiting is None:
            self._waiting[key] = {}
            return False
        waiting[call] = None
        return True

    def leave(self, key: bytes, call: Follower) -> None:
        """A follower has ended: nothing of it is held any more."""
        waiting = self._waiting.get(key)
        if waiting is not None:
            waiting.pop(call, None)

    def awaited(self, key: bytes) -> bool:
        """Whether somebody follows."""
        return bool(self._waiting.get(key))

    def land(self, key: bytes, entry: Entry | None) -> None:
        """The leader has ended with this result."""
        self._release(key, lambda follower: follower.landed(entry))

    def abandon(self, key: bytes) -> None:
        """The leader has been given up, or is too slow for those who wait."""
        self._release(key, lambda follower: follower.abandoned())

    def __contains__(self, key: bytes) -> bool:
        return key in self._waiting

    def _release(self, key: bytes, tell: Callable[[Follower], None]) -> None:
        for follower in self._waiting.pop(key, {}):
            if not follower.ended:
                tell(follower)

    def __len__(self) -> int:
        return len(self._waiting)

    def __repr__(self) -> str:
        followers = sum(map(len, self._waiting.values()))
        return f"<Flights {len(self._waiting)} led, {followers} followers>"
