"""How a server performs: what its sidecars counted over five minutes, added up. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from mcpace_sidecar.histogram import middle, percentile

MOVED: Final = 0.2
"""The part by which a number must have moved to be told again."""


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool over all replicas: calls, and how long the answered ones took."""

    name: str
    calls: int
    errors: int
    limited: int
    hits: int
    sent: int
    """Bytes of answers."""
    histogram: Mapping[int, int]

    @property
    def answered(self) -> int:
        """Calls with a duration."""
        return sum(self.histogram.values())

    @property
    def p95(self) -> float | None:
        """In seconds."""
        return percentile(self.histogram, 0.95)


@dataclass(frozen=True, slots=True)
class Performance:
    """One server over all the replicas that were asked."""

    tools: tuple[Tool, ...]
    calls_per_second: float

    @property
    def histogram(self) -> dict[int, int]:
        """Durations of all answered calls."""
        merged: dict[int, int] = {}
        for tool in self.tools:
            for number, count in tool.histogram.items():
                merged[number] = merged.get(number, 0) + count
        return merged

    @property
    def calls(self) -> int:
        """All calls of the five minutes."""
        return sum(tool.calls for tool in self.tools)

    @property
    def p95(self) -> float | None:
        """In seconds; None where nothing was answered."""
        return percentile(self.histogram, 0.95)

    @property
    def at_once(self) -> float:
        """How many calls were worked on at once, on average (Little's law)."""
        histogram = self.histogram
        answered = sum(histogram.values())
        if not answered:
            return 0.0
        mean = sum(middle(number) * count for number, count in histogram.items()) / answered
        return self.calls_per_second * mean

    def document(self, cached: Collection[str]) -> dict[str, str]:
        """What the status shows; the hit ratio is that of the tools that are cached."""
        histogram = self.histogram
        shown = {
            name: _duration(percentile(histogram, part)) for name, part in PERCENTILES.items() if histogram
        }
        shown["callsPerSecond"] = _number(self.calls_per_second)
        if self.calls:
            shown["errorRate"] = _percent(sum(tool.errors for tool in self.tools) / self.calls)
            shown["limitedRatio"] = _percent(sum(tool.limited for tool in self.tools) / self.calls)
        of_cached = [tool for tool in self.tools if tool.name in cached]
        looked_up = sum(tool.answered for tool in of_cached)
        if looked_up:
            shown["hitRatio"] = _percent(sum(tool.hits for tool in of_cached) / looked_up)
        return shown


PERCENTILES: Final = {"p50": 0.50, "p95": 0.95, "p99": 0.99}


def merged(stats: Iterable[Mapping[str, Any]]) -> Performance:
    """Add up what each sidecar's `/stats` said; KeyError, TypeError or ValueError if it is none."""
    tools: dict[str, Tool] = {}
    rate = 0.0
    for told in stats:
        for name, counted in told["calls"].items():
            rate += float(counted["callsPerSecond"])
            histogram = {int(number): int(count) for number, count in counted["histogram"].items()}
            before = tools.get(name, Tool(name, 0, 0, 0, 0, 0, {}))
            numbers = {*before.histogram, *histogram}
            tools[name] = Tool(
                name,
                calls=before.calls + int(counted["count"]),
                errors=before.errors + int(counted["errors"]),
                limited=before.limited + int(counted["limited"]),
                hits=before.hits + int(counted["hits"]),
                sent=before.sent + int(counted["sentBytes"]),
                histogram={n: before.histogram.get(n, 0) + histogram.get(n, 0) for n in sorted(numbers)},
            )
    return Performance(tuple(tools[name] for name in sorted(tools)), rate)


def moved(before: Mapping[str, Any], now: Mapping[str, str]) -> bool:
    """Whether any number is worth telling again: it appeared, it went, or it moved by a fifth."""
    if set(before) != set(now):
        return True
    for name, text in now.items():
        old, new = _value(before[name]), _value(text)
        if (
            old is None
            or abs(new or 0.0) > abs(old) * (1 + MOVED)
            or abs(new or 0.0) < abs(old) * (1 - MOVED)
        ):
            return True
    return False


_UNITS: Final = {"ms": 0.001, "s": 1.0, "%": 0.01, "": 1.0}


def _value(text: Any) -> float | None:
    """The number of a text of ours; None for anything else, such as what an older version wrote."""
    if not isinstance(text, str):
        return None
    number = text.rstrip("ms%")
    unit = text[len(number) :]
    try:
        return float(number) * _UNITS[unit]
    except (ValueError, KeyError):
        return None


def _duration(seconds: float | None) -> str:
    value = seconds or 0.0
    return f"{_number(value)}s" if value >= 1 else f"{_number(value * 1000)}ms"


def _percent(ratio: float) -> str:
    return f"{_number(ratio * 100)}%"


def _number(value: float) -> str:
    """Two significant digits, without an exponent."""
    if value <= 0:
        return "0"
    digits = 1 - math.floor(math.log10(value))
    rounded = round(value, digits)
    return f"{rounded:.{max(0, digits)}f}".rstrip("0").rstrip(".") if digits > 0 else f"{rounded:.0f}"
