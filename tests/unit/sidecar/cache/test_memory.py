"""Results in memory: bounded by bytes and entries, and forgotten when what they depend on changes."""

from __future__ import annotations

import gzip
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mcpace_sidecar.cache.entry import OVERHEAD, Entry, Miss, Place
from mcpace_sidecar.cache.memory import MemoryResults
from mcpace_sidecar.mcp.responses import RESULT


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def place(key: int) -> Place:
    return Place(b"%d" % key, (b"all", b"tool %d" % (key % 3)))


def keep(
    results: MemoryResults, key: int, result: bytes = b"{}", ttl: float = 60, stale: float = 0
) -> None:
    missed: list[Any] = []
    results.far((place(key),), 1.0, missed.append)
    (miss,) = missed
    assert isinstance(miss, Miss)
    assert miss.leading, "nobody else is asked"
    results.keep(place(key), miss.marks[0], result, ttl, stale)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("keep"), st.integers(0, 30), st.integers(0, 3000), st.floats(0, 100)),
        st.tuples(st.just("near"), st.integers(0, 30)),
        st.tuples(st.just("purge"), st.integers(0, 2)),
        st.tuples(st.just("purge all")),
        st.tuples(st.just("resize"), st.integers(0, 20_000), st.integers(1, 20)),
        st.tuples(st.just("wait"), st.floats(0, 50)),
        st.tuples(st.just("sweep")),
    ),
    max_size=60,
)


@given(STEPS)
def test_whatever_is_kept_the_bounds_hold_and_what_is_found_is_what_was_last_kept(
    steps: list[tuple[Any, ...]],
) -> None:
    clock = Clock()
    results = MemoryResults(20_000, 20, clock)
    kept: dict[int, tuple[bytes, float]] = {}
    for verb, *rest in steps:
        if verb == "keep":
            key, size, ttl = rest
            keep(results, key, b"x" * size, ttl)
            kept[key] = (b"x" * size, clock.now + ttl)
        elif verb == "near":
            entry = results.near(b"%d" % rest[0])
            if entry is not None:
                result, until = kept[rest[0]]
                assert entry.result == result
                assert clock.now < until
        elif verb == "purge":
            results.purge((b"tool %d" % rest[0],))
            for key in [key for key in kept if key % 3 == rest[0]]:
                del kept[key]
        elif verb == "purge all":
            results.purge((b"all",))
            kept.clear()
            assert (len(results), results.bytes) == (0, 0)
        elif verb == "resize":
            results.resize(*rest)
        elif verb == "wait":
            clock.now += rest[0]
        else:
            results.sweep()
        assert results.bytes <= results.max_bytes
        assert len(results) <= results.max_entries
        assert results.bytes == sum(entry.size for entry in results._entries.values())


def test_of_the_oldest_the_first_not_used_since_is_forgotten() -> None:
    results = MemoryResults(1 << 20, 3)
    for key in (1, 2, 3):
        keep(results, key)
    assert results.near(b"1") is not None
    keep(results, 4)
    assert [key for key in (1, 2, 3, 4) if results.near(b"%d" % key)] == [1, 3, 4]


def test_what_alone_is_too_large_is_not_kept_and_takes_nothing_elses_place() -> None:
    results = MemoryResults(OVERHEAD * 3)
    keep(results, 1)
    keep(results, 2, b"x" * OVERHEAD * 3)
    assert results.near(b"1") is not None
    assert results.near(b"2") is None


def test_what_is_stale_is_kept_as_long_as_it_may_stand_in() -> None:
    clock = Clock()
    results = MemoryResults(1 << 20, clock=clock)
    keep(results, 1, ttl=10, stale=20)
    clock.now += 15
    entry = results.near(b"1")
    assert entry is not None
    assert entry.fresh_until < clock.now
    clock.now += 20
    assert results.near(b"1") is None


def test_what_has_outlived_its_time_is_forgotten_though_nobody_asks() -> None:
    clock = Clock()
    results = MemoryResults(1 << 20, clock=clock)
    for key in range(200):
        keep(results, key, ttl=1 if key % 2 else 100)
    clock.now += 50
    for _ in range(20):
        results.sweep()
    assert len(results) == 100


def test_a_result_is_compressed_once_and_counted_with_what_that_takes() -> None:
    results = MemoryResults(1 << 20)
    keep(results, 1, b"x" * 5000)
    entry, before = results.near(b"1"), results.bytes
    assert entry is not None
    stem = results.compressed(entry, b"gzip")
    assert stem is not None
    assert results.compressed(entry, b"gzip") is stem
    assert results.bytes == before + len(stem.body)
    assert gzip.decompress(stem.ended(b"}")) == RESULT + b"x" * 5000 + b"}"


def test_of_what_is_kept_no_more_the_compressed_form_is_not_counted() -> None:
    results = MemoryResults(1 << 20)
    gone = Entry(place(1), b"x" * 5000, (), 0.0, 0.0)
    assert results.compressed(gone, b"gzip") is not None
    assert results.bytes == 0
