"""When freed memory is given back."""

import pytest

from mcpace_sidecar.contract.budget import BASE
from mcpace_sidecar.process.heap import GROWTH, LATE, SOON, Heap, resident

MIB = 1 << 20


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


def test_what_start_up_took_is_given_back_at_once():
    process = Process()
    process.takes = 60 * MIB
    Heap(256 * MIB, process.resident, process.trim).begin()
    assert (process.trims, process.takes) == (1, 0)


@pytest.mark.parametrize("memory", [64 * MIB, 1024 * MIB])
def test_a_process_may_take_half_of_its_memory_or_its_base_before_it_is_trimmed(memory: int) -> None:
    process = Process()
    heap = Heap(memory, process.resident, process.trim)
    least = min(BASE, memory // 2)
    process.takes = process.lives = least
    heap.sweep(1.0)
    assert process.trims == 0
    process.takes = least + 1
    heap.sweep(2.0)
    assert process.trims == 1


def test_growth_by_little_is_looked_at_again_soon() -> None:
    process = Process()
    heap = Heap(256 * MIB, process.resident, process.trim)
    process.takes, process.lives = 200 * MIB, 140 * MIB
    heap.sweep(0.0)
    process.takes = 140 * MIB + GROWTH - 1
    heap.sweep(SOON - 0.1)
    assert process.trims == 1
    heap.sweep(SOON)
    assert process.trims == 2


def test_what_this_process_takes_is_known_here() -> None:
    assert resident() == 0 or resident() > MIB
