"""How long to wait before trying again: a little longer each time, up to a bound."""

from __future__ import annotations


class Backoff:
    """The pauses between tries that fail. Pure: whoever tries waits."""

    __slots__ = ("_factor", "_first", "_longest", "_pause")

    def __init__(self, first: float, longest: float, factor: float = 2.0) -> None:
        """Seconds of the first pause and of the longest; each is `factor` times the one before."""
        self._first = self._pause = first
        self._longest = longest
        self._factor = factor

    def next(self) -> float:
        """Seconds until the next try."""
        pause = self._pause
        self._pause = min(pause * self._factor, self._longest)
        return pause

    def reset(self) -> None:
        """A try succeeded: the next failure is the first one again."""
        self._pause = self._first
