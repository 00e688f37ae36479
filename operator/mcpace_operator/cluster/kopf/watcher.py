"""kopf, watching in a thread of its own, and started again when it ends."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import aiohttp
import kopf

from mcpace_operator.cluster.kinds import WATCHED
from mcpace_operator.cluster.kopf import handlers
from mcpace_operator.health import RESTARTS
from mcpace_sidecar.contract.backoff import Backoff

log = logging.getLogger(__name__)

_FIRST, _LONGEST = 1.0, 30.0
"""Seconds until it is started again, after the first failure and after many in a row."""
_DEAD: Final = 8
"""Seconds for which kopf may outlive its session; it gives hung tasks of its own five."""
_LONG: Final = 60.0
"""Seconds of watching after which a failure is the first one again."""


class Watcher(threading.Thread):
    """kopf in a thread and loop of its own.

    In ours it would take the signals, and cancel every task at its end. Some failures of the
    API server make it end, so it is started again.
    """

    def __init__(
        self,
        event: Callable[[str, Mapping[str, Any], bool], object],
        gap: Callable[[], object],
        namespaces: Callable[[], tuple[str, ...]],
    ) -> None:
        """`event` and `gap` are of `See`; `namespaces` are those to be watched from now on, none is all."""
        # A daemon: told to end in the midst of its start, kopf does not, and nothing needs it to.
        super().__init__(name="kopf", daemon=True)
        self._see = handlers.See(event, gap, self.watched)
        self._namespaces = namespaces
        self._ending = threading.Event()
        self._round = threading.Event()
        """Ends what is watched now."""
        self._began: float | None = None
        self._wanted = 1 + len(WATCHED)
        self._watched: set[str] = set()

    def problem(self) -> str | None:
        """Why nothing is seen at the moment."""
        if self._began is None:
            return "Watching has ended, and is about to begin again."
        if len(self._watched) < self._wanted:
            return f"Watching is about to begin: {len(self._watched)} of {self._wanted} watches are open."
        return None

    def watched(self, path: str) -> None:
        """A watch has begun. Called in kopf's thread."""
        self._watched.add(path)

    def again(self) -> None:
        """Begin anew: other namespaces are to be watched."""
        self._round.set()

    def end(self) -> None:
        """Stop watching, for good."""
        self._ending.set()
        self._round.set()

    def run(self) -> None:
        """Watch until told to stop."""
        again, failed = Backoff(_FIRST, _LONGEST), False
        while not self._ending.is_set():
            self._round.clear()
            self._watched.clear()
            began = self._began = time.monotonic()
            if failed:
                self._see.gap()
            namespaces = self._namespaces()
            self._wanted = (1 + len(WATCHED)) * max(1, len(namespaces))
            try:
                asyncio.run(self._watch(namespaces))
            except Exception:  # whatever ended it, it begins again
                log.exception("Watching failed")
            self._began = None
            if self._ending.is_set():
                return
            if time.monotonic() - began > _LONG:
                again.reset()
            delay, failed = again.next(), True
            RESTARTS.inc()
            log.warning("Watching again in %g s", delay)
            self._ending.wait(delay)

    async def _watch(self, namespaces: tuple[str, ...]) -> None:
        sessions: list[aiohttp.ClientSession] = []
        watching = asyncio.ensure_future(
            kopf.operator(
                registry=handlers.registry(self._see, self._round.is_set, sessions.append),
                settings=handlers.settings(),
                clusterwide=not namespaces,
                namespaces=namespaces,
                standalone=True,
                # kopf would ask the system who we are, and the image has no such user.
                identity="mcpace",  # type: ignore[arg-type]  # because kopf keeps this type to itself
                stop_flag=self._round,
            )
        )
        try:
            dead = 0
            while not watching.done():
                await asyncio.wait([watching], timeout=1.0)
                # A kopf that fails closes its session, and then may wait for ever for watchers
                # that have swallowed their cancellation.
                dead = dead + 1 if sessions and sessions[-1].closed else 0
                if dead > _DEAD:
                    raise RuntimeError("kopf has closed its session and does not end")
            await watching
        finally:
            watching.cancel()
            # A thread of kopf's waits for the flag, and the loop would wait for that thread for ever.
            self._round.set()
