"""What is remembered is bounded: where there is no room, the oldest is forgotten."""

from __future__ import annotations

from itertools import islice
from typing import Any


def make_room(remembered: dict[Any, Any], limit: int) -> None:
    """Forget the oldest sixteenth of what holds `limit` entries or more.

    Not one entry at a time: a dict finds its first by passing all that were deleted before it.
    """
    if len(remembered) >= limit:
        for key in list(islice(remembered, max(1, limit // 16))):
            del remembered[key]
