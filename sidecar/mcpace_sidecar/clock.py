"""The clock that calls are timed with."""

from __future__ import annotations

import time
from typing import Final

monotonic: Final = time.monotonic
"""Seconds. Under a name of our own, because the compiled form looks up what is imported at each use."""
