"""The tie of a process that serves to the one that shows it: a socket, which is its standard input.

What is served tells there where it is. When the other end closes, whoever has started it is gone, however
that came about, and it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from typing import Final

import msgspec

_TIE: Final = 0


class Told(msgspec.Struct, frozen=True):
    """Where a server is."""

    url: str
    """Where clients call it."""
    page: str
    """The root of its admin port."""
    ready: bool
    """Whether it has been ready."""


def tell(told: Told) -> None:
    """Say it to whoever shows this process."""
    with contextlib.suppress(OSError):  # who is gone will be missed by `when_cut`
        os.write(_TIE, msgspec.json.encode(told) + b"\n")


def read(line: bytes) -> Told:
    """What was told, from a line of it."""
    return msgspec.json.decode(line, type=Told)


def when_cut(end: Callable[[], None]) -> None:
    """Call `end` once nobody shows this process any more; what it says goes nowhere then."""
    loop = asyncio.get_running_loop()

    def look() -> None:
        with contextlib.suppress(OSError):
            if os.read(_TIE, 1024):
                return
        loop.remove_reader(_TIE)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for output in (1, 2):
            os.dup2(nowhere, output)
        os.close(nowhere)
        end()

    loop.add_reader(_TIE, look)
