"""Durations as histograms that can be merged.

They fall into buckets that grow by 5 %, so a percentile is within 2.5 % of the truth, and
the histograms of many replicas add up to those of their server.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from math import log
from typing import Final

GROWTH: Final = 1.05
# A list, because the compiled form would make a tuple anew at each use.
BOUNDS: Final[list[float]] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0,
]  # fmt: skip
"""Upper bounds of `mcp_tool_duration_seconds`, in seconds; to 300, as OpenTelemetry has them for MCP."""

_FASTEST: Final = 1e-6
_PER_LOG: Final = 1 / math.log(GROWTH)
_ZERO: Final = -math.log(_FASTEST) * _PER_LOG


def bucket(seconds: float) -> int:
    """The number of the bucket a duration falls into; 0 holds a microsecond."""
    return int(log(seconds) * _PER_LOG + _ZERO) if seconds > _FASTEST else 0


def middle(number: int) -> float:
    """The duration that stands for a bucket, in seconds: its geometric middle."""
    return float(_FASTEST * GROWTH ** (number + 0.5))


def percentile(counts: Mapping[int, int], part: float) -> float | None:
    """The duration that `part` (0 to 1) of the calls did not exceed, in seconds."""
    wanted = math.ceil(part * sum(counts.values()))
    for number in sorted(counts):
        wanted -= counts[number]
        if wanted <= 0:
            return middle(number)
    return None
