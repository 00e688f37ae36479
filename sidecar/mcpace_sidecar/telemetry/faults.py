"""What goes wrong inside: exceptions nobody expected, counted by their site, logged by their frames."""

from __future__ import annotations

import logging
import time
import traceback
from typing import Any, Final, Literal

from mcpace_sidecar.bounded import make_room
from mcpace_sidecar.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

Site = Literal[
    "request",
    "token",
    "conversation",
    "limits",
    "look_up",
    "flight",
    "seat",
    "session",
    "overdue",
    "answer",
    "head",
    "piece",
    "end",
    "failure",
    "pair",
    "parts",
    "pages",
    "refresh",
    "purge",
    "client",
    "drain",
    "record",
    "settle",
    "sweep",
    "store",
    "connection",
    "upstream",
    "egress",
    "reload",
    "lost",
]
"""What led a call on, or the sidecar, when it raised; `lost`: nothing would ever have led the call on."""

LOGGED_EVERY: Final = 60.0
"""Seconds between two logs of the same exception from the same line."""
_REMEMBERED: Final = 1000


class Faults:
    """Tells of them: each is counted, and logged unless it was lately."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._logged: dict[tuple[Any, ...], float] = {}

    def tell(self, site: Site, error: BaseException) -> None:
        """Count and log one. Its text and its variables stay out: they may be somebody's data."""
        self._metrics.count("mcpace_internal_errors", site)
        frames = traceback.extract_tb(error.__traceback__)
        last = (frames[-1].filename, frames[-1].lineno) if frames else ()
        known = (site, type(error), *last)
        now = time.monotonic()
        if now - self._logged.get(known, -LOGGED_EVERY) < LOGGED_EVERY:
            return
        make_room(self._logged, _REMEMBERED)
        self._logged[known] = now
        where = "".join(traceback.format_list(frames[-_FRAMES:]))
        log.error("Internal error (%s): %s\n%s", site, type(error).__qualname__, where)


_FRAMES: Final = 20
