"""How a server performs: what its sidecars counted over five minutes, added up. Pure."""

from __future__ import annotations

import math
from array import array
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mcpace_sidecar.contract.histogram import middle, percentile
from mcpace_sidecar.contract.report import BUCKETS, Counted, Report

MOVED: Final = 0.2
"""The part by which a number must have moved to be told again."""
MOST_TOOLS: Final = 256
"""Tools of a server that are looked at one by one."""
OTHER: Final = "other"
"""All others together, as sidecars call those that the server does not list."""


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
    answered: int
    """Calls with a duration."""
    p95: float | None
    """In seconds."""


@dataclass(frozen=True, slots=True)
class Performance:
    """One server over all the replicas that were asked."""

    tools: tuple[Tool, ...]
    calls_per_second: float
    histogram: Mapping[int, int] = field(default_factory=dict)
    """Durations of all answered calls."""

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
            name: duration(percentile(histogram, part)) for name, part in PERCENTILES.items() if histogram
        }
        shown["callsPerSecond"] = number(self.calls_per_second)
        if self.calls:
            shown["errorRate"] = percent(sum(tool.errors for tool in self.tools) / self.calls)
            shown["limitedRatio"] = percent(sum(tool.limited for tool in self.tools) / self.calls)
        of_cached = [tool for tool in self.tools if tool.name in cached]
        looked_up = sum(tool.answered for tool in of_cached)
        if looked_up:
            shown["hitRatio"] = percent(sum(tool.hits for tool in of_cached) / looked_up)
        return shown


PERCENTILES: Final = {"p50": 0.50, "p95": 0.95, "p99": 0.99}


class Sum:
    """The reports of a server's sidecars, added up one by one, so that none of them is kept."""

    def __init__(self) -> None:
        self._tools: dict[str, _Adding] = {}
        self._all = _durations()
        self._rate = 0.0

    def add(self, report: Report) -> None:
        """Count what one sidecar counted. Tools beyond the first few hundred are counted together."""
        for name, counted in report.calls.items():
            known = name in self._tools or len(self._tools) < MOST_TOOLS
            self._tools.setdefault(name if known else OTHER, _Adding()).add(counted)
            self._rate += counted.calls_per_second
            for number, count in counted.histogram.items():
                self._all[number] += count

    def performance(self) -> Performance:
        """What they make together."""
        tools = tuple(self._tools[name].tool(name) for name in sorted(self._tools))
        return Performance(tools, self._rate, _filled(self._all))


class _Adding:
    """One tool, as far as it was counted."""

    __slots__ = ("calls", "durations", "errors", "hits", "limited", "sent")

    def __init__(self) -> None:
        self.calls = self.errors = self.limited = self.hits = self.sent = 0
        self.durations = _durations()

    def add(self, counted: Counted) -> None:
        self.calls += counted.count
        self.errors += counted.errors
        self.limited += counted.limited
        self.hits += counted.hits
        self.sent += counted.sent_bytes
        for number, count in counted.histogram.items():
            self.durations[number] += count

    def tool(self, name: str) -> Tool:
        durations = _filled(self.durations)
        return Tool(
            name, self.calls, self.errors, self.limited, self.hits, self.sent,
            answered=sum(durations.values()), p95=percentile(durations, 0.95),
        )  # fmt: skip


def _durations() -> array[int]:
    return array("q", bytes(8 * BUCKETS))


def _filled(durations: array[int]) -> dict[int, int]:
    return {number: count for number, count in enumerate(durations) if count}


def merged(reports: Iterable[Report]) -> Performance:
    """What reports make together."""
    together = Sum()
    for report in reports:
        together.add(report)
    return together.performance()


def moved(before: Mapping[str, Any], now: Mapping[str, str]) -> bool:
    """Whether any number is worth telling again: it appeared, it went, or it moved by a fifth."""
    if set(before) != set(now):
        return True
    for name, text in now.items():
        old, new = value(before[name]), value(text)
        if (
            old is None
            or abs(new or 0.0) > abs(old) * (1 + MOVED)
            or abs(new or 0.0) < abs(old) * (1 - MOVED)
        ):
            return True
    return False


_UNITS: Final = {"ms": 0.001, "s": 1.0, "%": 0.01, "": 1.0}


def value(text: Any) -> float | None:
    """The number of a text of ours; None for anything else, such as what an older version wrote."""
    if not isinstance(text, str):
        return None
    amount = text.rstrip("ms%")
    unit = text[len(amount) :]
    try:
        return float(amount) * _UNITS[unit]
    except (ValueError, KeyError):
        return None


def duration(seconds: float | None) -> str:
    """As a status shows it: two digits, in `ms` or `s`."""
    length = seconds or 0.0
    return f"{number(length)}s" if length >= 1 else f"{number(length * 1000)}ms"


def percent(ratio: float) -> str:
    """The same of a part."""
    return f"{number(ratio * 100)}%"


def number(amount: float) -> str:
    """Two significant digits, without an exponent."""
    if amount <= 0:
        return "0"
    digits = 1 - math.floor(math.log10(amount))
    rounded = round(amount, digits)
    return f"{rounded:.{max(0, digits)}f}".rstrip("0").rstrip(".") if digits > 0 else f"{rounded:.0f}"
