"""How much work something is: CPU time and memory at two sizes, compared."""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

from mcpace_sidecar.errors import McpaceError

MOST = 10.0
"""How much more work eight times as many bytes may be."""
_TRIES = 5
"""A neighbour that takes the processor's caches makes the larger one dearer than it is."""
_FLOOR_SECONDS = 0.002
_FLOOR_BYTES = 256 * 1024


def assert_linear(make: Callable[[int], Any], do: Callable[[Any], Any], n: int) -> None:
    """Fail where the work on what `make(8 * n)` gives is more than ten times that on `make(n)`.

    Errors of the project's own are an answer like another. Times below what can be measured count as
    that: choose `n` so that something quadratic is far above.
    """
    small, large = make(n), make(8 * n)
    _done(do, small)
    for _ in range(_TRIES):  # what is quadratic is dearer each time
        seconds = [min(_cpu(do, made) for _ in range(2)) for made in (small, large)]
        ratio = seconds[1] / max(seconds[0], _FLOOR_SECONDS)
        if ratio <= MOST:
            break
    assert ratio <= MOST, f"8 times the bytes took {ratio:.1f} times the CPU time: {seconds} s"
    peaks = [_peak(do, made) for made in (small, large)]
    ratio = peaks[1] / max(peaks[0], _FLOOR_BYTES)
    assert ratio <= MOST, f"8 times the bytes took {ratio:.1f} times the memory: {peaks} bytes"


def assert_spread(do: Callable[[int], object], count: int, share: float = 0.05) -> None:
    """Fail where one of `count` calls takes more than this share of the CPU time that all of them take."""
    gc.collect()
    gc.disable()  # whose own turn is no part of this work
    try:
        for _ in range(_TRIES):  # a page fault or a neighbour makes another one dear each time
            times = [_cpu(do, number) for number in range(count)]
            if max(times) <= share * sum(times):
                return
    finally:
        gc.enable()
    raise AssertionError(
        f"one of {count} took {max(times) * 1000:.1f} ms of {sum(times) * 1000:.1f} ms for all"
    )


def _cpu(do: Callable[[Any], Any], made: Any) -> float:
    began = time.process_time()
    _done(do, made)
    return time.process_time() - began


def _peak(do: Callable[[Any], Any], made: Any) -> int:
    tracemalloc.start()
    try:
        _done(do, made)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _done(do: Callable[[Any], Any], made: Any) -> None:
    try:
        do(made)
    except McpaceError:
        return
