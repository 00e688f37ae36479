"""Who answers requests, as the configuration says: those of clients, and the sidecar's own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Final

from mcpace_sidecar.contract.config import SidecarConfig
from mcpace_sidecar.http.backend import UNLIMITED, Backend
from mcpace_sidecar.http.ledger import Ledger
from mcpace_sidecar.http.pool import Pool
from mcpace_sidecar.process.options import Options
from mcpace_sidecar.stdio.channel import Connections
from mcpace_sidecar.stdio.processes import REASONS, Processes
from mcpace_sidecar.stdio.sessions import Sessions
from mcpace_sidecar.stdio.shared import Shared

log = logging.getLogger(__name__)

_OWN_CALLS: Final = 1000
"""Requests that the sidecar's own process works on at once: as they come, those of clients without sessions
among them."""


class Backends:
    """Both: they are apart, so that the sidecar's own requests never wait behind calls."""

    def __init__(
        self, options: Options, config: SidecarConfig, on_error: Callable[[Exception], None]
    ) -> None:
        self.kind = self._kind(config)
        self.processes: Processes | None = None
        self.calls: Backend
        self.own: Backend
        if self.kind == "http":
            self.calls = Pool(options.upstream, on_error=on_error)
            # None is kept, because a server that serves one connection at a time is left to calls.
            self.own = Pool(options.upstream, on_error=on_error, max_idle=0)
            return
        launch = options.launch or Connections(options.upstream)
        processes = self.processes = Processes(
            launch, Ledger(UNLIMITED), on_error, shared=self.kind == "shared"
        )
        if self.kind == "shared":
            # One process may be all that a server can bear: it is asked what clients ask it.
            self.calls = self.own = Shared(options.upstream, processes, on_error)
        else:
            own = self.own = Shared(options.upstream, processes, on_error, most=1, calls=_OWN_CALLS)
            self.calls = Sessions(options.upstream, processes, on_error, own)
        self.own.adopt(config)

    def adopt(self, config: SidecarConfig) -> None:
        """Use what this says from the next request of the sidecar's own on."""
        if self._kind(config) != self.kind:
            log.warning("`transport` and `stdio.processes` have changed: start anew to take that")
        if self.processes is not None:
            self.own.adopt(config)

    @property
    def reviving(self) -> Backend:
        """Who is asked to begin a lost session again: of processes, whoever has the sessions'."""
        return self.own if self.processes is None else self.calls

    @staticmethod
    def _kind(config: SidecarConfig) -> str:
        return config.stdio.processes if config.transport == "stdio" else "http"

    def sweep(self, now: float) -> None:
        """What the sweep of calls does not look at."""
        self.own.sweep(now)
        if self.processes is not None:
            self.processes.sweep(now)

    def gauges(self) -> Iterator[tuple[str, dict[str, str], float]]:
        """What is known of connections, or of processes."""
        if isinstance(self.calls, Pool):
            for state, connections in self.calls.counts():
                yield "mcpace_upstream_connections", {"state": state}, connections
            yield "mcpace_upstream_waiting", {}, self.calls.waiting
        processes, counted = self.processes, self.calls.counted()
        if processes is None or counted is None:
            return
        for state, count in processes.counts():
            yield "mcpace_stdio_processes", {"state": state}, count
        yield "mcpace_stdio_waiting", {}, counted.waiting
        yield "mcpace_stdio_starts", {}, counted.starts
        for reason in REASONS:
            yield "mcpace_stdio_failed_starts", {"reason": reason}, counted.failed.get(reason, 0)
        yield "mcpace_stdio_crashes", {}, counted.crashes
        yield "mcpace_stdio_junk_lines", {}, counted.junk_lines

    async def close(self) -> None:
        """Close both."""
        await self.calls.close()
        await self.own.close()
