"""The C library's heap: told what to keep of freed memory, and from time to time to give it back.

glibc keeps what lies between blocks still in use, and raises by itself the size from which a block is
mapped alone: what a few hundred large answers took may stay long after them. And what it gives back at
the heap's end it takes again for the next large body, page by page.
musl and macOS give back by themselves: nothing is done there. Source: mallopt(3), malloc_trim(3).
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mcpace_sidecar.contract.backoff import Backoff
from mcpace_sidecar.contract.budget import BASE

MAPPED: Final = 2 << 20
"""Bytes from which a block is mapped alone and leaves with its end. Below it page faults would cost more
than the work: 1 MiB bodies take twice the CPU time where each is mapped."""
KEPT: Final = 16 << 20
"""Free bytes at the heap's end that wait for the next large body."""
GROWTH: Final = 32 << 20
"""Bytes by which the process must have grown to be trimmed at once."""
SOON: Final = 4.0
"""Seconds between two trims where the last gave something back."""
LATE: Final = 64.0
"""Seconds between two trims where none does: what is in use stays, and looking for more is not free."""
_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
_STATM: Final = Path("/proc/self/statm")
_VARIABLES: Final = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")


def resident() -> int:
    """Bytes of memory that this process takes; 0 where Linux does not say it."""
    try:
        return int(_STATM.read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0


class Heap:
    """Gives freed memory back once the process takes more than half of its memory, or than its base."""

    def __init__(
        self, memory: int, resident: Callable[[], int] = resident, trim: Callable[[], None] | None = None
    ) -> None:
        """`memory`: bytes that the process may use. `trim` gives back what is free; None: glibc's."""
        self._free_size = min(BASE, memory // 2)
        self._resident = resident
        self._trim = trim or _of_glibc()
        self._left = 0
        """Bytes that it took after the last trim."""
        self._again = Backoff(SOON, LATE)
        self._next = 0.0

    def begin(self) -> None:
        """Give back what start-up took, a megabyte or two: reading a manifest takes more than it keeps."""
        if self._trim is not None:
            self._trim()

    def sweep(self, now: float) -> None:
        """Give back what is free, where that may be much; about twice a second."""
        if self._trim is None:
            return
        takes = self._resident()
        if takes <= self._free_size or (now < self._next and takes - self._left < GROWTH):
            return
        self._trim()
        self._left = self._resident()
        if takes - self._left > takes // 16:
            self._again.reset()
        self._next = now + self._again.next()


def _of_glibc() -> Callable[[], None] | None:
    """Set its heap's thresholds, unless its own variables do; return its trim, or None without it."""
    if platform.libc_ver()[0] != "glibc":
        return None
    library = ctypes.CDLL(None)
    if not any(name in os.environ for name in _VARIABLES):
        library.mallopt(_MMAP_THRESHOLD, MAPPED)
        library.mallopt(_TRIM_THRESHOLD, KEPT)
    return lambda: library.malloc_trim(0)
