"""How many calls of each tool end a second now, from what `/stats?recent` tells each time.

The report counts in half minutes; what is between two looks shows what happens in seconds.
"""

from __future__ import annotations

from collections import deque
from math import ceil
from typing import Final

from mcpace_sidecar.contract.report import Recent, Slice, Slices

LOOKS: Final = 60
"""How many looks are remembered."""
LATELY: Final = 5
"""Looks over which a rate is taken."""
_LONGEST: Final = 25.0
"""Seconds between two looks after which nothing is known: a half minute may have passed unseen."""
_NONE: Final = Slice(0.0, 0)


class Rates:
    """What was seen at each look."""

    def __init__(self) -> None:
        self._before: Recent | None = None
        self._at = 0.0
        self._seconds: deque[float] = deque(maxlen=LOOKS)
        """From each look to the next."""
        self._ended: dict[str, deque[int]] = {}
        """Calls that ended between them."""

    def look(self, now: float, recent: Recent) -> None:
        """Take a report of this moment, in seconds of a monotonic clock."""
        before, since = self._before, now - self._at
        self._before, self._at = recent, now
        if before is None or not 0 < since < _LONGEST or not (recent.slices and before.slices):
            return
        over = recent.slices[-1].seconds < before.slices[-1].seconds
        self._seconds.append(since)
        for tool in self._ended.keys() | recent.tools.keys():
            kept = self._ended.get(tool)
            if kept is None:
                earlier = [0] * (len(self._seconds) - 1)
                kept = self._ended[tool] = deque(earlier, maxlen=LOOKS)
            kept.append(_ended(before.tools.get(tool, ()), recent.tools.get(tool, ()), over=over))
        for tool in [tool for tool, counts in self._ended.items() if not any(counts)]:
            del self._ended[tool]

    def now(self, tool: str) -> float:
        """Calls a second of the last looks."""
        seconds = list(self._seconds)[-LATELY:]
        return sum(list(self._ended.get(tool, ()))[-LATELY:]) / sum(seconds) if seconds else 0.0

    def each(self, tool: str) -> list[float]:
        """Calls a second from look to look, the oldest first."""
        counts = self._ended.get(tool, [0] * len(self._seconds))
        return [count / seconds for count, seconds in zip(counts, self._seconds, strict=True)]


def _ended(before: Slices, now: Slices, *, over: bool) -> int:
    """Calls that ended between two looks; `over`: the half minute of the first one has ended."""
    last = before[-1] if before else _NONE
    current = now[-1] if now else _NONE
    if not over:
        return max(0, current.count - last.count)
    past = now[-2] if len(now) > 1 else _NONE
    return current.count + max(0, past.count - last.count)


BLOCKS: Final = "▁▂▃▄▅▆▇█"
ASCII: Final = "_.-=+*%#"
"""For terminals that know no others."""


def spark(values: list[float], width: int, blocks: str = BLOCKS) -> str:
    """The last of them as a line of blocks, so many wide at most; what is nothing is blank."""
    shown = values[-width:] if width > 0 else []
    top = max(shown, default=0.0)
    return "".join(
        " " if value <= 0 else blocks[max(1, ceil(value / top * len(blocks))) - 1] for value in shown
    )
