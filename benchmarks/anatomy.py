"""Where a call's time goes: the kernel's part, and each stage of the sidecar's own.

The kernel's and the process's shares are read from a running sidecar under load; the stages are
timed alone, one after the other, on the same call, in each build's own interpreter.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import timeit
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rig import Contender, Rig

BODY = (
    b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"%b","arguments":{"city":"Paris",'
    b'"units":"metric","pad":"' + b"p" * 70 + b'"}}}'
)
HEAD = (
    b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2026-07-28\r\n"
    b"Mcp-Method: tools/call\r\nMcp-Name: %b\r\nContent-Length: %d\r\n\r\n"
)
ANSWER = (
    b'{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":"'
    + b"x" * 900
    + b'"}],"isError":false,"resultType":"complete"}}'
)
TIMES = 20_000


def main() -> None:
    """Measure and print."""
    if sys.argv[1:] == ["stages"]:
        print(json.dumps(stages()))
        return
    from rig import Rig, arguments, publish, table

    options = arguments(__doc__, rounds=1, seconds=3).parse_args()
    rows: list[tuple[object, ...]] = [("", "µs per call", "passed", "cache hit")]
    with Rig(options.compiled) as rig:
        for build, python in rig.builds.items():
            sidecar = rig.sidecar(build)
            whole = [
                under_load(rig, sidecar, f"tool={tool}", options.seconds) for tool in ("plain", "cached")
            ]
            command = [python, __file__, "stages"]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            rows.append((build, "in the process, of which:", *(f"{own:.1f}" for own, _ in whole)))
            for name, parts in json.loads(output).items():
                rows.append((build, name, *(f"{part:.2f}" if part else "" for part in parts)))
            rows.append((build, "in the kernel, for it", *(f"{kernel:.1f}" for _, kernel in whole)))
    publish("anatomy", table(*rows), write=options.write)


def under_load(rig: Rig, sidecar: Contender, call: str, seconds: float) -> tuple[float, float]:
    """Microseconds of a call under load: the process's own, and the kernel's for it."""
    from rig import times

    rig.load(sidecar, call)
    before = times(sidecar.pid)
    calls = rig.load(sidecar, call, seconds=seconds).rate * seconds
    own, kernel = ((b - a) / calls * 1e6 for a, b in zip(before, times(sidecar.pid), strict=True))
    return own, kernel


def stages() -> dict[str, tuple[float, float]]:
    """Microseconds of each stage, of a passed call and of a hit; 0 where there is none."""
    from rig import CONFIG

    from mcpace_sidecar.call.context import Context
    from mcpace_sidecar.contract.config import load
    from mcpace_sidecar.http.address import Address
    from mcpace_sidecar.http.known import RequestHeads
    from mcpace_sidecar.mcp import answers, request
    from mcpace_sidecar.process.options import Options
    from mcpace_sidecar.process.sidecar import Sidecar

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.yaml")
        path.write_text(CONFIG)
        here = Address("127.0.0.1", 0)
        options = Options(
            load=lambda: load(path),
            watched=(),
            listen=here,
            admin_listen=here,
            upstream=Address("127.0.0.1", 1),
        )
        plane = Sidecar(options).plane
    settings, heads = plane.settings, RequestHeads(plane.settings.names)
    body = BODY % b"cached"
    raw = HEAD % (b"cached", len(body))
    whole, end = raw + body, len(raw)
    head, *_ = heads.read(raw)
    context = Context(settings, plane.pool.address, head, loopback=True, believed=False)
    message = request.classify(body)
    policy = settings.policies.of(message)
    client = settings.identities.via("127.0.0.1", ()).caller.client
    limits = settings.limits
    assert limits is not None
    assert client is not None
    assert policy.cache is not None
    private, rule = context.private(client, ()), policy.cache
    (place, *_) = settings.keys.places(rule, context.variant, message, private)
    plane.results.far((place,), 3600, lambda miss: plane.results.keep(place, miss.marks[0], b"{}", 3600, 0))
    assert plane.results.near(place.key) is not None

    def judge() -> None:
        charges = limits.charges(client, policy.price)
        verdict = plane.limits.take(charges)
        assert verdict is not None
        charges.lines(verdict.left, verdict.at)

    def look_up() -> None:
        settings.keys.places(rule, context.variant, message, private)
        plane.results.near(place.key)

    def record() -> None:
        plane.tallies.count("cached", "success", 0.002, "memory", 200, 1000)

    return {
        "finding a head that was read before": (took(lambda: heads.read(whole[:end])),) * 2,
        "classifying the message": (took(lambda: request.classify(body)),) * 2,
        "taking tokens, and saying what is left": (took(judge),) * 2,
        "the key of its result, and a look into memory": (0.0, took(look_up)),
        "reading how the answer ended": (took(lambda: answers.succeeded(ANSWER)), 0.0),
        "metrics and statistics": (took(record),) * 2,
    }


def took(work: Callable[[], object]) -> float:
    """Microseconds of one call, at best."""
    idle = min(timeit.repeat(lambda: None, number=TIMES, repeat=5))
    return (min(timeit.repeat(work, number=TIMES, repeat=5)) - idle) / TIMES * 1e6


if __name__ == "__main__":
    main()
