"""What the last five minutes were like, per tool."""

from __future__ import annotations

from mcpace_sidecar.contract.histogram import percentile
from mcpace_sidecar.contract.report import Counted
from mcpace_sidecar.telemetry.tally import Tallies, Tally


def summary(tallies: Tallies) -> dict[str, Counted]:
    """What was counted of each tool, as it is reported."""
    tools, seconds = tallies.lately()
    return {name: _summary(tally, seconds) for name, tally in sorted(tools.items())}


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
