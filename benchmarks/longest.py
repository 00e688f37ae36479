"""What holds the event loop the longest: the dearest inputs that the limits admit, each worked on alone.

While one is worked on, nobody else has a turn. The run fails where the compiled form takes
much more than 50 ms.
"""

from __future__ import annotations

import gc
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import count

MOST = 50.0
"""Milliseconds, on a machine that does nothing else."""
ALLOWED = 1.5
"""Of that, where neighbours take the processor's caches."""
TIMES = 5
KIB, MIB = 1 << 10, 1 << 20
READ = 256 * KIB
"""Bytes that the event loop reads at once."""
BODY = 4 * MIB
"""The largest request body, unless a manifest says otherwise."""
CALL = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":%b}}'

Work = tuple[Callable[[], object], Callable[[object], object]]
"""(what makes an input anew, what is done with it)."""


def main() -> None:
    """Measure and print."""
    if sys.argv[1:] == ["works"]:
        print(json.dumps({name: took(*work) for name, work in works().items()}))
        return
    from pathlib import Path

    from rig import arguments, publish, table

    options = arguments(__doc__, rounds=1, seconds=1).parse_args()
    builds = {"python": Path(sys.executable)} | ({"compiled": options.compiled} if options.compiled else {})
    measured: dict[str, dict[str, float]] = {}
    for build, python in builds.items():
        command = [python, __file__, "works"]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        measured[build] = json.loads(output)
    rows: list[tuple[object, ...]] = [("", *(f"{build}, ms" for build in builds))]
    rows += [(name, *(f"{each[name]:.1f}" for each in measured.values())) for name in measured["python"]]
    publish("longest", table(*rows), write=options.write)
    too_long = {name: ms for name, ms in measured.get("compiled", {}).items() if ms > MOST * ALLOWED}
    if too_long:
        raise SystemExit(f"the event loop is held for much longer than {MOST:.0f} ms: {too_long}")


def took(make: Callable[[], object], do: Callable[[object], object]) -> float:
    """Milliseconds of CPU time, at best: a neighbour's doing is no part of it."""
    best = float("inf")
    for _ in range(TIMES):
        made = make()
        gc.collect()
        began = time.thread_time()
        do(made)
        best = min(best, time.thread_time() - began)
    return best * 1000


def works() -> dict[str, Work]:
    """What is done, by what it is."""
    from mcpace_sidecar.cache.policy import LONGEST_PARAMS, canonical
    from mcpace_sidecar.errors import McpaceError
    from mcpace_sidecar.http import compression, sse
    from mcpace_sidecar.http.framing import ChunkedBody
    from mcpace_sidecar.http.head import MAX_HEAD
    from mcpace_sidecar.http.known import RequestHeads
    from mcpace_sidecar.mcp import answers, request

    def same(made: bytes, do: Callable[[bytes], object]) -> Work:
        def tolerant(made: object) -> object:
            assert isinstance(made, bytes)
            try:
                return do(made)
            except (ValueError, McpaceError):
                return None

        return lambda: made, tolerant

    works: dict[str, Work] = {}
    lines = b"".join(b"X-%d: %b\r\n" % (number, b"v" * 140) for number in range(195))
    head = b"POST /mcp HTTP/1.1\r\nHost: localhost\r\n" + lines + b"\r\n"
    assert len(head) <= MAX_HEAD
    works["reading a head of 32 KiB"] = same(head, lambda made: RequestHeads().read(made))
    for words, arguments in {
        "of text": b'"' + b"a" * (BODY - 100) + b'"',
        "of escapes": b'"' + rb"\ud83d\ude00" * (BODY // 12 - 10) + b'"',
        "of numbers": b"[" + b"1," * (BODY // 2 - 50) + b"1]",
        "of brackets in texts": b"[" + b'["["],' * (BODY // 6 - 20) + b"1]",
        "of brackets": b"[" + b"{}," * (BODY // 3 - 40) + b"1]",
        "of names": b"[" + b'{"name":1,"Name":2},' * (BODY // 20 - 10) + b"1]",
    }.items():
        works[f"classifying a body of 4 MiB {words}"] = same(CALL % arguments, request.classify)
    call = CALL % b"{}"
    batch = b"[" + b",".join([call] * 99 + [CALL % (b'"' + b"a" * (BODY - 20 * KIB) + b'"')]) + b"]"
    works["splitting a batch of 4 MiB"] = same(batch, request.split)
    works["splitting what is no batch, 4 MiB"] = same(b"[" + b"1," * (BODY // 2 - 2) + b"1]", request.split)
    for words, params in {
        "numbers": b'{"a":[' + b"1," * (LONGEST_PARAMS // 2 - 10) + b"1]}",
        "names": b"{" + b",".join(b'"%d":1' % number for number in range(LONGEST_PARAMS // 9)) + b"}",
        "escapes": b'{"a":"' + rb"\u00e9" * (LONGEST_PARAMS // 6 - 10) + b'"}',
    }.items():
        works[f"one spelling of 256 KiB of params: {words}"] = same(params, canonical)
    works["256 KiB of chunks of one byte"] = same(
        b"1\r\na\r\n" * (READ // 6), ChunkedBody(strict=False).feed
    )
    events = b'data: {"jsonrpc":"2.0","method":"m"}\n\n'
    for words, piece in {"events": events, "the smallest events": b"a\n\n"}.items():
        works[f"256 KiB of {words}"] = same(
            piece * (READ // len(piece)),
            lambda made: [
                answers.kind(data) for event in sse.Events().feed(made) if (data := sse.data_of(event))
            ],
        )
    generator = random.Random(1)
    words = [f"{generator.getrandbits(40):x}" for _ in range(5000)]
    text = " ".join(generator.choice(words) for _ in range(500_000)).encode()
    for coding, most in compression.MOST.items():
        longest = text[:most]
        name = f"{most >> 20} MiB in {coding.decode()}"
        works[f"compressing {name}"] = same(
            longest, lambda made, coding=coding: compression.compress(coding, made)
        )
        works[f"compressing {name}, to be kept"] = same(
            longest, lambda made, coding=coding: compression.begin(coding, made)
        )
    return works | _pages() | _tables()


def _pages() -> dict[str, Work]:
    from mcpace_sidecar.call import paging
    from mcpace_sidecar.call.book import first_page, later_page
    from mcpace_sidecar.call.policies import PageRule
    from mcpace_sidecar.contract.config.traffic import PagedTool

    rule = PageRule(PagedTool(name="t", items=100, bytes="64Ki"))
    most = paging.MAX_RESULT - KIB
    items = b"[" + b",".join([b'{"a":"%b"}' % (b"x" * 30)] * (paging.MAX_ITEMS - 1)) + b"]"
    halves = b"[" + b",".join([b'{"a":"%b"}' % (b"x" * 8)] * (paging.MAX_ITEMS - 1)) + b"]"
    inputs = {
        "100,000 items": b'{"content":[],"structuredContent":{"items":%b}}' % items[:most],
        "100,000 items, twice": b'{"content":[{"type":"text","text":%b}],"structuredContent":{"items":%b}}'
        % (json.dumps(halves.decode()).encode(), halves),
        "one text": b'{"content":[{"type":"text","text":"%b"}]}'
        % (b"a line of text\\n" * (most // 16 - 9)),
        "one text of wide characters": b'{"content":[{"type":"text","text":"%b"}]}'
        % ("é".encode() * (most // 2 - 99)),
        "20,000 texts": b'{"content":[%b]}'
        % b",".join([b'{"type":"text","text":"%b"}' % (b"y" * 180)] * (paging.MAX_BLOCKS - 9)),
    }
    works: dict[str, Work] = {}
    for words, result in inputs.items():
        assert len(result) <= paging.MAX_RESULT, words

        def cut(made: object) -> object:
            assert isinstance(made, bytes)
            found = paging.paginate(made, rule)
            return found and first_page(*found, "h", "next_page")

        works[f"cutting {len(result) / MIB:.0f} MiB into pages: {words}"] = (lambda made=result: made), cut
    found = paging.paginate(inputs["100,000 items"], rule)
    if found is not None:
        book = found[0]
        works["reading a later page"] = (
            lambda: book,
            lambda made: later_page(made, 500, 100, "h", "next_page"),
        )
    return works


def _tables() -> dict[str, Work]:
    """Room for one more, where tables are full; what is counted is the dearest of many that come."""
    from mcpace_sidecar.cache.entry import ALL, Place
    from mcpace_sidecar.cache.memory import MemoryResults
    from mcpace_sidecar.limits.bucket import Charge, Charges
    from mcpace_sidecar.limits.memory import LEVELS, MemoryLimits

    names = count()
    levels, results, large = MemoryLimits(), MemoryResults(1 << 30), MemoryResults(40 * MIB)

    def take(_: object = None) -> object:
        return levels.take(Charges([Charge(f"day:{next(names)}", "day", 10)]))

    def keep(store: MemoryResults, result: bytes) -> object:
        name = b"%d" % next(names)
        place = Place(name, (ALL, b"tool:t", b"client:" + name, b"credential:" + name))
        store.keep(place, store.marks.of(place.tags), result, 60, 0)
        return store.near(name)

    def full() -> object:
        while len(levels) < LEVELS:
            take()
        while len(results) < results.max_entries:
            keep(results, b"x")
        return None

    def small() -> object:
        large.resize(0, 0)
        large.resize(40 * MIB, 100_000)
        while large.bytes < large.max_bytes - KIB:
            keep(large, b"x" * 100)
        return None

    def sweep(_: object) -> object:
        levels.sweep()
        return results.sweep()

    return {
        "room for a client among 100,000": (full, take),
        "room for a result among 100,000": (full, lambda _: keep(results, b"x")),
        "room for a result of 8 MiB among small ones": (small, lambda _: keep(large, b"x" * (8 * MIB))),
        "a sweep of what has outlived its time": (full, sweep),
    }


if __name__ == "__main__":
    main()
