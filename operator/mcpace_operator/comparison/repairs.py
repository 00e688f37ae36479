"""Children that somebody else keeps changing. Pure.

A child that is put back more than five times in ten minutes has another owner: a person, or a
controller. From then on it is put back once a minute, and a condition says so.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from mcpace_operator.comparison.additions import OURS
from mcpace_operator.comparison.drift import ChildId, fingerprint
from mcpace_operator.resource.server import Key

MOST: Final = 5
WINDOW: Final = 600.0
PAUSE: Final = 60.0


class Repairs:
    """What was applied to each child, and when the same was applied again. Times are in seconds, rising."""

    def __init__(self) -> None:
        self._applied: dict[Key, dict[ChildId, str]] = {}
        self._times: dict[Key, dict[ChildId, deque[tuple[float, str]]]] = {}

    def is_one(self, key: Key, child_id: ChildId, desired: Mapping[str, Any]) -> bool:
        """Whether to apply this would put back what stood there."""
        return self._applied.get(key, {}).get(child_id) == fingerprint(desired)

    def note(self, key: Key, child_id: ChildId, desired: Mapping[str, Any], by: str, now: float) -> None:
        """It was applied; `by` is who had changed it, if that is known."""
        if self.is_one(key, child_id, desired):
            times = self._times.setdefault(key, {}).setdefault(child_id, deque(maxlen=MOST + 1))
            times.append((now, by))
        else:
            self._applied.setdefault(key, {})[child_id] = fingerprint(desired)

    def contested(self, key: Key, now: float) -> dict[ChildId, str]:
        """The children that somebody else keeps changing, and who it was last."""
        return {
            child_id: times[-1][1]
            for child_id, times in self._times.get(key, {}).items()
            if len(times) > MOST and now - times[0][0] < WINDOW
        }

    def must_wait(self, key: Key, child_id: ChildId, now: float) -> bool:
        """Whether to put it back now would be to fight."""
        return child_id in self.contested(key, now) and now - self._times[key][child_id][-1][0] < PAUSE

    def removed(self, key: Key, child_id: ChildId) -> None:
        """We removed it: to make it again is no repair."""
        for each in (self._applied, self._times):
            each.get(key, {}).pop(child_id, None)

    def forget(self, key: Key) -> None:
        """The server is gone."""
        self._applied.pop(key, None)
        self._times.pop(key, None)


def changed_by(body: Mapping[str, Any] | None) -> str:
    """Who last wrote the object beside us, as its managedFields say; "" where they do not."""
    entries = [
        entry
        for entry in ((body or {}).get("metadata") or {}).get("managedFields") or []
        if entry.get("manager") not in OURS and entry.get("subresource") != "status"
    ]
    last = max(entries, key=lambda entry: str(entry.get("time", "")), default=None)
    return str(last.get("manager", "")) if last is not None else ""
