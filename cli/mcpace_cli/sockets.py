"""Who listens on a port of this machine. Linux tells (proc(5)); elsewhere only whether somebody does."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_LISTENING: Final = "0A"
_FORWARDERS: Final = frozenset(
    {"docker-proxy", "rootlessport", "slirp4netns", "pasta", "pasta.avx2", "conmon"}
)
"""Programs that listen for a container, which the command may well have started."""


def listens(port: int) -> bool:
    """Whether somebody accepts connections on the loopback."""
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with contextlib.suppress(OSError), socket.socket(family) as asking:
            asking.settimeout(1)
            asking.connect((host, port))
            return True
    return False


def stranger(port: int, pids: Iterable[int] = ()) -> str | None:
    """Who listens on a port and is none of these: `PID 4242 (node)`; None if nobody is known to."""
    wanted = {inode for inode, there in _listeners() if there == port}
    if not wanted or any(wanted & _sockets(pid) for pid in pids):
        return None
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and wanted & _sockets(int(entry.name)):
            name = _name(int(entry.name))
            return None if name in _FORWARDERS else f"PID {entry.name} ({name})"
    return None


def ports_of(pids: Iterable[int]) -> set[int]:
    """The TCP ports that these processes listen on, as far as can be seen."""
    held = set().union(*map(_sockets, pids))
    return {port for inode, port in _listeners() if inode in held}


def _listeners() -> Iterator[tuple[int, int]]:
    """(inode, port) of every socket that listens."""
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in (_PROC / "net" / name).read_text(encoding="ascii").splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENING:
                    yield int(fields[9]), int(fields[1].rpartition(":")[2], 16)


def _sockets(pid: int) -> set[int]:
    """The inodes of a process's sockets; none where they cannot be seen."""
    found = set()
    with contextlib.suppress(OSError):
        for entry in (_PROC / str(pid) / "fd").iterdir():
            with contextlib.suppress(OSError):
                link = os.readlink(entry)  # noqa: PTH115 - because it leads to no path
                if link.startswith("socket:["):
                    found.add(int(link[8:-1]))
    return found


def _name(pid: int) -> str:
    try:
        return (_PROC / str(pid) / "comm").read_text().strip()
    except OSError:
        return "?"
