"""What `/stats` tells: everything that is counted or held, put together when it is asked for."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from mcpace_sidecar import __version__
from mcpace_sidecar.cache.memory import MemoryResults
from mcpace_sidecar.call.plane import Plane
from mcpace_sidecar.contract.report import (
    VERSION,
    CountedDoor,
    Item,
    Kept,
    Limited,
    Report,
    ServerInfo,
    Slots,
)
from mcpace_sidecar.egress.doors import Doors
from mcpace_sidecar.server.findings import Findings
from mcpace_sidecar.server.handshake import Handshake
from mcpace_sidecar.telemetry import statistics
from mcpace_sidecar.telemetry.tally import WINDOW, Tallies

Judge = Callable[[Report], tuple[Item, ...]]
"""What the checklist says of a report."""


class Store(Protocol):
    """A link to a Redis."""

    name: str
    up: bool


class Reports:
    """Makes them."""

    def __init__(
        self, plane: Plane, handshake: Handshake, tallies: Tallies, memory: MemoryResults, doors: Doors,
        findings: Findings, links: Sequence[Store], judge: Judge,
    ) -> None:  # fmt: skip
        self._plane = plane
        self._handshake = handshake
        self._tallies = tallies
        self._memory = memory
        self._doors = doors
        self._findings = findings
        self._links = links
        self._judge = judge
        self._started = time.monotonic()
        self._scraped: float | None = None

    def scraped(self) -> None:
        """Somebody reads the metrics."""
        self._scraped = time.monotonic()

    @property
    def uptime(self) -> float:
        """In seconds."""
        return round(time.monotonic() - self._started, 3)

    def recent(self) -> Report:
        """The report of this moment, with how the five minutes went, and what is to be thought of it."""
        report = self.now()
        return msgspec.structs.replace(
            report, recent=statistics.recent(self._tallies), checklist=self._judge(report)
        )

    def now(self) -> Report:
        """The report of this moment."""
        plane, server = self._plane, self._plane.catalog.server
        tools = plane.catalog.tools
        return Report(
            version=VERSION,
            calls=statistics.summary(self._tallies),
            window_seconds=WINDOW,
            server=ServerInfo(server.name, server.version, server.protocol_version) if server else None,
            tools=tuple(sorted(tools)),
            read_only_tools=tuple(
                sorted(n for n, hints in tools.items() if hints.get("readOnlyHint") is True)
            ),
            scraped_seconds_ago=(
                None if self._scraped is None else round(time.monotonic() - self._scraped, 1)
            ),
            doors={
                name: CountedDoor(sum(door.answers.values()), door.pool.opened)
                for name, door in self._doors.open.items()
            },
            missing_secrets=plane.settings.missing_secrets,
            unknown_fields=plane.settings.ignored,
            in_flight=dict(plane.tools_in_flight()),
            findings=self._findings.now(),
            slots=self._slots(),
            sessions=len(plane.sessions),
            relays=plane.peers is not None,
            processes=plane.pool.counted(),
            sidecar=__version__,
            uptime_seconds=self.uptime,
            ready=self._handshake.ready and not plane.draining,
            problem=self.problem,
            cache=Kept(len(self._memory), self._memory.bytes, self._memory.max_bytes),
            pool=plane.pool.pooled(),
            breakers=tuple(plane.breakers.open()),
            limited=self._limited(),
            stores={link.name: link.up for link in self._links},
        )

    @property
    def problem(self) -> str:
        """Why it is not ready; empty where it is."""
        if self._plane.draining:
            return "The sidecar is ending."
        return "" if self._handshake.ready else self._handshake.problem or ""

    def _slots(self) -> Slots:
        bulkhead = self._plane.bulkhead
        most = bulkhead.max_in_flight
        return Slots(
            taken=bulkhead.in_flight,
            of=most if most < sys.maxsize else None,
            queued=len(bulkhead.queue),
            queue_of=bulkhead.max_queued,
        )

    def _limited(self) -> tuple[Limited, ...]:
        counts = self._plane.metrics.counts["mcpace_limited_calls"]
        return tuple(Limited(tier, limit, calls) for (tier, limit), calls in sorted(counts.items()))
