"""The processes of this machine, by parent and session. Linux tells (proc(5), prctl(2)), others do not."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections import defaultdict
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final, NamedTuple

_PROC: Final = Path("/proc")
_PR_SET_CHILD_SUBREAPER: Final = 36


class _Process(NamedTuple):
    pid: int
    parent: int
    session: int


def adopt() -> bool:
    """Let whatever loses its parent below us be our child, and not init's; whether the system does that."""
    if sys.platform != "linux":
        return False
    return int(ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)) == 0


def descendants(ancestor: int, but: Collection[int] = ()) -> set[int]:
    """The living processes below one, without some and what is below those."""
    children = defaultdict(list)
    for process in _living():
        children[process.parent].append(process.pid)
    found: set[int] = set()
    parents = [ancestor]
    while parents:
        new = [pid for pid in children.pop(parents.pop(), ()) if pid not in but]
        found.update(new)
        parents += new
    return found


def session(leader: int) -> set[int] | None:
    """The living processes of a session; None where the system does not tell."""
    if not (_PROC / "self/stat").exists():
        return None
    return {process.pid for process in _living() if process.session == leader}


def _living() -> Iterator[_Process]:
    for entry in _PROC.iterdir() if _PROC.exists() else ():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                state, parent, _, of = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
                if state not in "ZX":
                    yield _Process(int(entry.name), int(parent), int(of))


def bury(but: Collection[int]) -> None:
    """Take leave of the children of ours that have ended, until it is the turn of one of these."""
    with contextlib.suppress(ChildProcessError):
        while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if ended.si_pid in but:
                return
            os.waitpid(ended.si_pid, 0)
