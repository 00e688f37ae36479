"""Memory that was freed and does not leave the process: what lies between blocks still in use."""

import platform
import subprocess
import sys

import pytest

MIB = 1 << 20
glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this is glibc's heap")
PINNED = """
import asyncio, uvloop
from mcpace_sidecar.contract.config import SidecarConfig, parse
from mcpace_sidecar.process.heap import resident
from mcpace_sidecar.process.options import Options
from mcpace_sidecar.process.sidecar import Sidecar
from mcpace_sidecar.http.address import Address

async def main():
    here = Address("127.0.0.1", 0)
    load = lambda: parse(SidecarConfig, {})
    sidecar = Sidecar(Options(load, (), here, here, Address("127.0.0.1", 1), memory=128 << 20))
    await sidecar.start()
    large, small = 1_000_000, 5000
    pins = [b"x" * small for _ in range(2000)]  # which fill what start-up left between others
    before, blocks = resident(), []
    for _ in range(300):
        blocks.append(b"x" * large)
        pins.append(b"x" * small)
    del blocks
    freed = resident()
    for _ in range(100):
        await asyncio.sleep(0.1)
        if resident() < before + (freed - before) // 8:
            break
    print(freed - before, resident() - before)
    sidecar.end()
    await sidecar.wait()

uvloop.run(main())
"""


@glibc
def test_a_sidecar_gives_back_what_lies_between_blocks_still_in_use():
    done = subprocess.run([sys.executable, "-c", PINNED], capture_output=True, text=True, check=True)
    freed, left = map(int, done.stdout.split())
    assert freed > 200 * MIB, "the heap gave it back by itself: this shows nothing"
    assert left < 32 * MIB
