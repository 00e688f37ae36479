"""One line of JSON for each ended call.

It says who called what, how it ended and how long it took; never arguments or credentials.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import msgspec

from mcpace_sidecar.telemetry.events import CallEnded


def write(call: CallEnded) -> None:
    """Write the line of a call to standard output."""
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
        "traceparent": call.trace.decode("latin-1") or None,
    }
    sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
    sys.stdout.flush()
