"""Processes that have left the group of the one that started them, as browsers do.

They are found by their environment, which Linux alone shows; what clears its own is not found.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

MARK: Final = "MCPACE_PROCESS"
"""The variable that what a process starts inherits, and by which it is known."""
_PROC: Final = Path("/proc")


def alive(mark: str) -> bool:
    """Whether there is one of this mark."""
    for stray in _found(mark):
        os.close(stray)
        return True
    return False


def send(mark: str, number: signal.Signals) -> None:
    """Send all of this mark a signal."""
    for stray in _found(mark):
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(stray, number)
        os.close(stray)


def _found(mark: str) -> Iterator[int]:
    """Those of this mark, each by a descriptor that is never another process's; the reader closes it."""
    if not hasattr(os, "pidfd_open"):  # not Linux
        return
    wanted = b"%b=%b\0" % (MARK.encode(), mark.encode())
    for folder in _PROC.glob("[0-9]*"):
        if wanted in _environment(folder):
            with contextlib.suppress(OSError):
                stray = os.pidfd_open(int(folder.name))
                if wanted in _environment(folder):  # it, and not one that has its number since
                    yield stray
                else:
                    os.close(stray)


def _environment(folder: Path) -> bytes:
    """What a process was started with; empty of others' processes, and of those that have ended."""
    try:
        return b"\0" + (folder / "environ").read_bytes()
    except OSError:
        return b""
