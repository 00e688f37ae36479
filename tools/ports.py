"""Ports for servers that tests start: none that the kernel might give to a client meanwhile."""

from __future__ import annotations

import random
import socket
from itertools import cycle

# Below 32768 the kernel gives none away by itself; what Kubernetes and the benchmarks fix is elsewhere.
_NUMBERS = cycle(random.SystemRandom().sample(range(20_000, 30_000), 10_000))


def free_port() -> int:
    """A port that nothing listens on, and that this process was not given before."""
    for port in _NUMBERS:
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise AssertionError("no port is free")
