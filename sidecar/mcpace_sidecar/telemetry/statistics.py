"""What the last five minutes were like, per tool."""

from __future__ import annotations

from typing import Final

from mcpace_sidecar.contract.histogram import percentile
from mcpace_sidecar.contract.report import Counted, Recent, Slice
from mcpace_sidecar.telemetry.tally import Tallies, Tally

MOST_DRAWN: Final = 32
"""Tools of which each half minute is told: the busiest. Calls wait while they are reckoned."""


def summary(tallies: Tallies) -> dict[str, Counted]:
    """What was counted of each tool, as it is reported."""
    tools, seconds = tallies.lately()
    return {name: _summary(tally, seconds) for name, tally in sorted(tools.items())}


def recent(tallies: Tallies) -> Recent:
    """How they went, half minute by half minute."""
    tools, seconds = tallies.lately()
    slices = tallies.slices()
    busiest = sorted(tools, key=lambda name: -sum(tools[name].statuses.values()))[:MOST_DRAWN]
    return Recent(
        together=_summary(_together(tools), seconds),
        slices=tuple(_slice(lasted, _together(counted)) for lasted, counted in slices),
        tools={
            name: tuple(_slice(lasted, counted.get(name)) for lasted, counted in slices) for name in busiest
        },
    )


def _together(tools: dict[str, Tally]) -> Tally:
    tally = Tally()
    for each in tools.values():
        tally.add(each)
    return tally


def _slice(seconds: float, tally: Tally | None) -> Slice:
    if tally is None:
        return Slice(round(seconds, 1), 0)
    histogram = tally.histogram
    parts = [percentile(histogram, part) for part in (0.50, 0.95, 0.99)]
    return Slice(round(seconds, 1), sum(tally.statuses.values()), *parts)


def _summary(tally: Tally, seconds: float) -> Counted:
    count = sum(tally.statuses.values())
    errors = tally.statuses.get("error", 0) + tally.statuses.get("failed", 0)
    histogram = tally.histogram
    return Counted(
        count=count,
        errors=errors,
        limited=tally.statuses.get("limited", 0),
        hits=tally.hits,
        sent_bytes=tally.sent,
        calls_per_second=round(count / seconds, 3),
        histogram=histogram,
        received_bytes=tally.received,
        error_rate=round(errors / count, 6) if count else 0.0,
        p50=percentile(histogram, 0.50),
        p95=percentile(histogram, 0.95),
        p99=percentile(histogram, 0.99),
    )
