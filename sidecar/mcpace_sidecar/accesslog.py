"""One line of JSON for each ended call, where the configuration asks for it.

It says who called what, how it ended and how long it took; never arguments or credentials.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import msgspec

from mcpace_sidecar.events import CallEnded
from mcpace_sidecar.settings import Settings


class AccessLog:
    """A listener that writes to standard output."""

    def __init__(self, settings: Callable[[], Settings]) -> None:
        self._settings = settings

    def __call__(self, call: CallEnded) -> None:
        """Write the line of a call."""
        if not self._settings().access_log:
            return
        line: dict[str, Any] = {
            "time": round(time.time(), 3),
            "tool": call.tool,
            "status": call.status,
            "milliseconds": round(call.seconds * 1000, 3),
            "cache": call.cache or None,
            "client": call.client,
            "tier": call.tier,
            "requestBytes": call.received,
            "responseBytes": call.sent,
            "traceparent": call.trace or None,
        }
        sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
        sys.stdout.flush()
