"""One queue of keys: coalescing, never one key in two workers, failures tried again later.

The delay doubles from half a second to five minutes, with jitter; a new event clears it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from mcpace_operator.health import QUEUED, RECONCILES, SECONDS
from mcpace_operator.resource.server import Key
from mcpace_sidecar.contract.backoff import Backoff
from mcpace_sidecar.errors import McpaceError

log = logging.getLogger(__name__)

FIRST_DELAY: Final = 0.5
LONGEST_DELAY: Final = 300.0


class Queue:
    """Keys that may need work."""

    def __init__(self) -> None:
        self._waiting: dict[Key, None] = {}  # in order, each once
        self._working: set[Key] = set()
        self._again: set[Key] = set()
        self._failing: dict[Key, Backoff] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._some = asyncio.Event()

    def mark(self, key: Key) -> None:
        """Something happened that concerns this key."""
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        if key in self._working:
            self._again.add(key)
        else:
            self._waiting[key] = None
            self._some.set()

    def mark_all(self, keys: Iterable[Key]) -> None:
        """Something happened that concerns them all."""
        for key in keys:
            self.mark(key)

    async def work(self, reconcile: Callable[[Key], Awaitable[None]]) -> None:
        """Take keys and reconcile them, one at a time, for ever."""
        while True:
            while not self._waiting:
                self._some.clear()
                await self._some.wait()
            key = next(iter(self._waiting))
            del self._waiting[key]
            self._working.add(key)
            QUEUED.set(len(self._waiting))
            try:
                with SECONDS.time():
                    await reconcile(key)
            except Exception as error:  # noqa: BLE001 - because whatever it was, the key is tried again, and said
                RECONCILES.labels("error").inc()
                self._later(key, error)
            else:
                RECONCILES.labels("ok").inc()
                self._failing.pop(key, None)
            finally:
                self._working.discard(key)
                if key in self._again:
                    self._again.discard(key)
                    self.mark(key)

    def _later(self, key: Key, error: Exception) -> None:
        failing = self._failing.setdefault(key, Backoff(FIRST_DELAY, LONGEST_DELAY))
        delay = failing.next() * random.uniform(0.8, 1.2)  # noqa: S311 - because it is jitter
        expected = isinstance(error, McpaceError | OSError | TimeoutError)
        log.warning("%s: %s; again in %.1f s", key, error, delay, exc_info=None if expected else error)
        if key not in self._again:
            timer = asyncio.get_running_loop().call_later(delay, self.mark, key)
            self._timers[key] = timer

    def __len__(self) -> int:
        return len(self._waiting) + len(self._working)
