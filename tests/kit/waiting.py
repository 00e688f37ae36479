"""How long tests wait, and for what."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

DEADLINE = 30.0
"""Seconds that any one condition of a test may take."""
STARTING = 60.0
"""Seconds that a program may take to start: what it imports takes long on a busy machine."""


async def until(
    condition: Callable[[], Any], what: str, seconds: float = DEADLINE, pause: float = 0.01
) -> Any:
    """Wait until the condition is true, and return it; fail with what was waited for."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if isinstance(value, Awaitable):
            value = await value
        if value:
            return value
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain: {what}"
        await asyncio.sleep(pause)
