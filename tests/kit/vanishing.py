"""A process that vanishes from the network: nothing that is sent to its sockets arrives, nor is it acknowledged.

So it looks from outside when a node loses its power, or a network policy begins to drop: no end, no reset.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import struct
from pathlib import Path

_PIDFD_GETFD = 438
_SO_ATTACH_FILTER = 26
_DROP = struct.pack("HBBI", 0x06, 0, 0, 0)
"""A filter of the kernel's that takes no byte of any packet (socket(7), bpf(2))."""


def vanish(pid: int) -> None:
    """Stop a process, which may only be killed afterwards, and drop what comes for it."""
    os.kill(pid, signal.SIGSTOP)
    library = ctypes.CDLL(None, use_errno=True)
    program = ctypes.create_string_buffer(_DROP)
    drop = struct.pack("HxxxxxxP", 1, ctypes.addressof(program))
    process = os.pidfd_open(pid)
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            if not str(entry.readlink()).startswith("socket:"):
                continue
            number = library.syscall(_PIDFD_GETFD, process, int(entry.name), 0)
            assert number >= 0, os.strerror(ctypes.get_errno())
            with socket.socket(fileno=number) as taken:
                if taken.family in (socket.AF_INET, socket.AF_INET6):
                    taken.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, drop)
    finally:
        os.close(process)
