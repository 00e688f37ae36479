"""Memory that was freed and does not leave the process: what lies between blocks still in use."""

import platform
import subprocess
import sys

import pytest

from mcpace_sidecar.process.heap import GROWTH, LATE, SOON, Heap

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


class Process:
    """So much memory taken, and what a trim would leave of it."""

    def __init__(self) -> None:
        self.takes = self.lives = 0
        self.trims = 0

    def resident(self) -> int:
        return self.takes

    def trim(self) -> None:
        self.trims += 1
        self.takes = self.lives


@glibc
def test_a_sidecar_gives_back_what_lies_between_blocks_still_in_use():
    done = subprocess.run([sys.executable, "-c", PINNED], capture_output=True, text=True, check=True)
    freed, left = map(int, done.stdout.split())
    assert freed > 200 * MIB, "the heap gave it back by itself: this shows nothing"
    assert left < 32 * MIB


def test_a_process_is_trimmed_when_it_has_grown_and_seldom_where_that_gives_nothing():
    process = Process()
    heap = Heap(256 * MIB, process.resident, process.trim)
    process.takes = process.lives = 100 * MIB
    heap.sweep(1.0)
    assert process.trims == 0, "it is no larger than a process is"
    process.takes = 200 * MIB
    heap.sweep(2.0)
    assert (process.trims, process.takes) == (1, 100 * MIB)
    process.takes = 100 * MIB + GROWTH + 1
    heap.sweep(2.5)
    assert process.trims == 2, "it grew"
    process.takes = process.lives = 130 * MIB
    heap.sweep(3.0)
    assert process.trims == 2, "it grew by little, and was trimmed just now"
    now = 2.5
    for wait in (SOON, SOON * 2, SOON * 4, SOON * 8, LATE, LATE):
        before = process.trims
        heap.sweep(now + wait - 0.5)
        assert process.trims == before
        now += wait
        heap.sweep(now)
        assert process.trims == before + 1
    process.lives = 50 * MIB
    heap.sweep(now + LATE)
    assert process.takes == 50 * MIB, "what was freed meanwhile has gone"
