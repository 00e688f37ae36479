"""The slow example: a server written the slow way, and the sources that it asks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.kit.laptop import listens, wait_for
from tests.kit.programs import ROOT
from tools.ports import free_port

FOLDER = ROOT / "examples/slow"
SLOW = [sys.executable, str(FOLDER / "server.py")]


@contextmanager
def sources() -> Iterator[int]:
    """What the slow server asks, on a port of its own."""
    port = free_port()
    with subprocess.Popen(
        [sys.executable, FOLDER / "far.py"], env=os.environ | {"FAR_PORT": str(port)}
    ) as process:
        try:
            wait_for(lambda: listens(port), "the sources to listen")
            yield port
        finally:
            process.kill()
