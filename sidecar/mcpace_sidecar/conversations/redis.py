"""Conversations that all replicas share, in the Redis of the limits: a call may go on at any of them.

A counter for each question: how often the server had asked by then. Who goes on takes so much away that
nobody else can, and deletes it. It takes no other commands than limits do.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from mcpace_sidecar.conversations.memory import REMEMBERED, ROUNDS, Conversations
from mcpace_sidecar.conversations.questions import PATIENCE
from mcpace_sidecar.errors import StoreError
from mcpace_sidecar.redis.link import Link
from mcpace_sidecar.redis.wire import unread

_TAKEN: Final = 1 << 20
"""More than a server asks."""


class RedisConversations:
    """Calls that wait for their client. What Redis has not taken, this replica alone knows."""

    def __init__(self, link: Link, clock: Callable[[], float] = monotonic) -> None:
        self.link = link
        self.local = Conversations(clock)
        self._clock = clock
        self._hour = 0.0
        self._shared = 0
        """How many were given to Redis in this hour: as many as are remembered, at most."""

    def asked(self, key: bytes, rounds: int) -> None:
        """The server wants to know more before it answers; so often it had asked before."""
        self.local.asked(key, rounds)
        now = self._clock()
        if now > self._hour + PATIENCE:
            self._hour, self._shared = now, 0
        if rounds >= ROUNDS or self._shared >= REMEMBERED or not self.link.up:
            return
        self._shared += 1

        def taken(answer: Any) -> None:
            if not isinstance(answer, StoreError):
                self.local.continues(key)  # whoever asks Redis first has it

        self.link.send(taken, b"INCRBY", self._key(key), b"%d" % (rounds + 1))
        self.link.send(unread, b"EXPIRE", self._key(key), b"%d" % int(PATIENCE))

    def continues(self, key: bytes, done: Callable[[int], None]) -> int | None:
        """How often the server had asked when a call goes on with that; once for each question, then 0."""
        if not self.link.up:
            return self.local.continues(key)

        def told(answer: Any) -> None:
            alone = self.local.continues(key)
            done(max(0, answer + _TAKEN, alone) if isinstance(answer, int) else alone)

        self.link.send(told, b"INCRBY", self._key(key), b"%d" % -_TAKEN)
        self.link.send(unread, b"PEXPIRE", self._key(key), b"0")
        return None

    def __len__(self) -> int:
        return len(self.local)

    def _key(self, key: bytes) -> bytes:
        return self.link.prefix + b"asked:" + key.hex().encode()
