"""What the last five minutes were like, per tool."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from mcpace_sidecar.contract.histogram import bucket, percentile
from mcpace_sidecar.contract.report import Counted
from mcpace_sidecar.telemetry.events import CallEnded

WINDOW: Final = 300.0
"""Seconds looked back at."""
SLICES: Final = 10
_SLICE: Final = WINDOW / SLICES


class _Tool:
    __slots__ = ("durations", "hits", "received", "sent", "statuses")

    def __init__(self) -> None:
        self.durations: dict[int, int] = {}
        self.statuses: dict[str, int] = {}
        self.hits = 0
        self.received = 0
        self.sent = 0


class Stats:
    """Ten slices of half a minute, the oldest dropped as time goes on."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._slices: dict[int, dict[str, _Tool]] = {}
        self._number = -1
        self._began = clock()
        self._current: dict[str, _Tool] = {}
        self.turn()

    def turn(self) -> None:
        """Begin a new slice when its time has come; called about twice a second."""
        number = int(self._clock() / _SLICE)
        if number != self._number:
            self._number = number
            self._current = self._slices[number] = {}
            for old in [n for n in self._slices if n <= number - SLICES]:
                del self._slices[old]

    def on_call(self, call: CallEnded) -> None:
        """Take an ended call."""
        tool = self._current.get(call.tool)
        if tool is None:
            tool = self._current[call.tool] = _Tool()
        status = call.status
        tool.statuses[status] = tool.statuses.get(status, 0) + 1
        tool.received += call.received
        tool.sent += call.sent
        if status == "success" or status == "error":  # noqa: PLR1714 - twice as fast as a tuple here
            number = bucket(call.seconds)
            tool.durations[number] = tool.durations.get(number, 0) + 1
            if call.cache and call.cache != "miss":
                tool.hits += 1

    def summary(self) -> dict[str, Counted]:
        """What was counted of each tool."""
        now = self._clock()
        oldest = int(now / _SLICE) - SLICES
        seconds = max(1.0, now - max(self._began, (oldest + 1) * _SLICE))
        merged: dict[str, _Tool] = {}
        for number, tools in self._slices.items():
            if number <= oldest:
                continue
            for name, tool in tools.items():
                into = merged.setdefault(name, _Tool())
                for bucket_number, count in tool.durations.items():
                    into.durations[bucket_number] = into.durations.get(bucket_number, 0) + count
                for status, count in tool.statuses.items():
                    into.statuses[status] = into.statuses.get(status, 0) + count
                into.hits += tool.hits
                into.received += tool.received
                into.sent += tool.sent
        return {name: _summary(tool, seconds) for name, tool in sorted(merged.items())}


def _summary(tool: _Tool, seconds: float) -> Counted:
    count = sum(tool.statuses.values())
    errors = tool.statuses.get("error", 0) + tool.statuses.get("failed", 0)
    return Counted(
        count=count,
        errors=errors,
        limited=tool.statuses.get("limited", 0),
        hits=tool.hits,
        sent_bytes=tool.sent,
        calls_per_second=round(count / seconds, 3),
        histogram=dict(sorted(tool.durations.items())),
        received_bytes=tool.received,
        error_rate=round(errors / count, 6) if count else 0.0,
        p50=percentile(tool.durations, 0.50),
        p95=percentile(tool.durations, 0.95),
        p99=percentile(tool.durations, 0.99),
    )
