"""What the server itself uses: its container, where cgroup files show it, or its process.

In a pod each container sees its own cgroup alone; whoever mounts the server's into the sidecar
names it by MCPACE_SERVER_CGROUP. On a laptop the server is a child. Source: cgroup v2; proc(5).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def unseen() -> Iterator[tuple[str, float]]:
    """Nothing: the server cannot be seen."""
    return iter(())


def of_cgroup(folder: Path) -> Iterator[tuple[str, float]]:
    """(metric, value) of what a cgroup's files say; nothing where they are not there."""
    try:
        cpu = dict(line.split() for line in (folder / "cpu.stat").read_text().splitlines())
        yield "mcpace_server_cpu_seconds", int(cpu["usage_usec"]) / 1e6
        yield "mcpace_server_memory_bytes", int((folder / "memory.current").read_text())
        limit = (folder / "memory.max").read_text().strip()
        if limit != "max":
            yield "mcpace_server_memory_limit_bytes", int(limit)
    except (OSError, ValueError, KeyError):
        return


def of_processes(pids: Callable[[], Iterable[int]]) -> Iterator[tuple[str, float]]:
    """(metric, value) of what processes use together, their ended children included."""
    ticks = pages = seen = 0
    for pid in pids():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += sum(map(int, fields[11:15]))
        pages += int(fields[21])
        seen += 1
    if seen:
        yield "mcpace_server_cpu_seconds", ticks / _TICK
        yield "mcpace_server_memory_bytes", pages * _PAGE
