"""How much of everything there may be: shares of the memory that the container may use.

What a process takes before any call, and what the cache is given, are set apart; the rest is divided
by one table. Source of the limit: cgroups v2 (memory.max) and v1 (memory.limit_in_bytes).
"""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Final, NamedTuple

from mcpace_sidecar.contract.environment import MEMORY_LIMIT
from mcpace_sidecar.contract.quantity import SIZE_WORDS, size
from mcpace_sidecar.errors import ConfigError

UNLIMITED: Final = 512 << 20
"""Bytes that are reckoned with where nothing limits them, as on a laptop."""
BASE: Final = 128 << 20
"""Bytes of the process itself: the interpreter, the code, what it remembers of clients."""
LEAST: Final = 16 << 20
"""Bytes to be divided, however little is left."""
_WHOLE: Final = 16
_SPARE_FILES: Final = 64
"""Files and sockets beside those of clients and the server."""


class Share(NamedTuple):
    """A row of the table."""

    sixteenths: int
    """Its part of what is divided."""
    unit: int
    """Bytes that one costs; 1 where bytes themselves are bounded."""
    words: str
    beyond: str
    """What happens beyond it."""


SHARES: Final = {
    "connections": Share(
        4, 8 << 10, "client connections", "the one longest waited for is closed; where all are at work, 503"
    ),
    "streams": Share(
        2, 8 << 10, "open event streams", "the longest silent one of the client with the most is ended"
    ),
    "bodies": Share(
        4, 1,
        "bytes of requests: unfinished bodies, bodies over 16 KiB at work, heads over 4 KiB, and calls that"
        " wait for a stream of 2024-11-05",
        "the largest client's oldest unfinished one, else this one, is answered 503",
    ),
    "answers": Share(
        2, 1, "bytes of answers that clients do not read",
        "the connection that has not read for the longest is closed",
    ),
    "replays": Share(
        1, 1, "bytes of what was said on streams of sessions, for clients whose connections break",
        "what has ended is forgotten, then what the client with the most holds: it is told that it is lost",
    ),
    "gathered": Share(
        2, 1,
        "bytes of answers that are read whole before they are passed on, of batches' parts, and of what"
        " processes of stdio have not read",
        "one passes as it comes: it is not kept, and not cut into pages; a part gets an error; such a"
        " process is given nothing more",
    ),
    "egress": Share(1, 1, "bytes of the bodies, and of the answers, at the doors of `egress`", "the same"),
}  # fmt: skip
"""What is bounded, and by how much: sixteen sixteenths."""


class Budget:
    """The bounds under one memory limit."""

    __slots__ = ("answers", "bodies", "connections", "egress", "gathered", "memory", "replays", "streams")

    def __init__(self, memory: int, cache: int, files: int) -> None:
        """`memory`: bytes that the process may use, `cache` of them; `files` it may open."""
        self.memory = memory
        divided = max(LEAST, memory - BASE - cache)
        most = {name: divided * share.sixteenths // _WHOLE // share.unit for name, share in SHARES.items()}
        self.connections = min(most["connections"], max(16, files // 2 - _SPARE_FILES))
        self.streams = min(most["streams"], self.connections // 2)
        self.bodies, self.answers = most["bodies"], most["answers"]
        self.gathered, self.egress = most["gathered"], most["egress"]
        self.replays = most["replays"]


def memory_limit(root: Path = Path("/")) -> int:
    """The bytes that this process may use; ConfigError where the variable is no size."""
    written = MEMORY_LIMIT.read()
    if written:
        try:
            return size(written)
        except ValueError:
            raise ConfigError(f"{MEMORY_LIMIT}: {written!r} is no size; {SIZE_WORDS}") from None
    limits = [
        limit for limit in map(_read, _files(root)) if 0 < limit < 1 << 60
    ]  # v1 writes a huge number for none
    return min(limits, default=UNLIMITED)


def _files(root: Path) -> list[Path]:
    """Where cgroups say it: at their root, as a container sees its own, and along our own path."""
    v2, v1 = root / "sys/fs/cgroup", root / "sys/fs/cgroup/memory"
    files = [v2 / "memory.max", v1 / "memory.limit_in_bytes"]
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return files
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for folder in (Path(path.lstrip("/")), *Path(path.lstrip("/")).parents):
            if not controllers:
                files.append(v2 / folder / "memory.max")
            elif "memory" in controllers.split(","):
                files.append(v1 / folder / "memory.limit_in_bytes")
    return files


def _read(file: Path) -> int:
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0


def allow_files() -> int:
    """Let this process open as many files as it may; return how many that are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard not in (soft, resource.RLIM_INFINITY):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return soft if soft != resource.RLIM_INFINITY else 1 << 20
