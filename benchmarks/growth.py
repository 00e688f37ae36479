"""How a call's cost grows: with connections, bodies, clients and tools; and what each holds in memory.

One window of nginx and one of the sidecar for every size, alternating; medians. Compiled, where
that is given. A ratio marked ~ is of CPU time: a core was not busy.
"""

from __future__ import annotations

import re
import socket
import sys
import time
from contextlib import ExitStack

from rig import CONFIG, Contender, Rig, arguments, median, metrics, publish, ratio, rss, table

TOOLS = 1000
GROWING = CONFIG + "concurrency: {maxInFlight: 10000, maxQueued: 10000}\n"

SIZES = {
    "connections": {n: ("tool=plain", n) for n in (1, 32, 500, 5000)},
    "bytes of a request": {n: (f"tool=plain size={n}", 16) for n in (200, 10_000, 100_000, 1_048_576)},
    "bytes of an answer": {
        n: (f"tool=answer{n}", 16) for n in (200, 10_000, 100_000, 1_000_000, 4_000_000)
    },
    "clients": {n: (f"tool=plain clients={n}", 32) for n in (1, 10, 1000, 100_000)},
    "tools": {n: (f"tool=t% tools={n}", 32) for n in (1, 10, 100, TOOLS)},
}
IDLE = 5000
CLIENTS = 100_000
QUIET = 40_000
"""Clients whose buckets and quotas find room together."""
PATIENCE = 200.0


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__, rounds=3, seconds=1).parse_args()
    rows: list[tuple[object, ...]] = [
        ("", "", "nginx, calls/s", "CPU µs a call", "mcpace, calls/s", "CPU µs a call", "ratio")
    ]
    with Rig(options.compiled) as rig:
        build = "compiled" if options.compiled else "python"
        nginx, sidecar = rig.nginx(), rig.sidecar(build, GROWING)
        for what, sizes in SIZES.items():
            for size, (call, connections) in sizes.items():
                if connections * 2 > rig.files:
                    print(f"  {connections} connections are more than may be opened here", file=sys.stderr)
                    continue
                pairs = [
                    [rig.window(who, call, connections, options.seconds) for who in (nginx, sidecar)]
                    for _ in range(options.rounds)
                ]
                theirs, ours = (list(windows) for windows in zip(*pairs, strict=True))
                rows.append((what, f"{size:,}", *median(theirs), *median(ours), ratio(ours, theirs)))
        rig.check(sidecar)
        words = [idle(rig.sidecar(build, GROWING), rig.files), quiet(rig, rig.sidecar(build, GROWING))]
    publish("growth", table(*rows) + "\n\n" + "\n".join(words), write=options.write)


def idle(sidecar: Contender, files: int) -> str:
    """What a connection holds that has made a call and waits for its next."""
    before = rss(sidecar.pid)
    body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"plain","arguments":{}}}'
    head = b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    request = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    count = min(IDLE, files // 2)
    with ExitStack() as stack:
        for _ in range(count):
            opened = stack.enter_context(socket.create_connection(("127.0.0.1", sidecar.port)))
            opened.sendall(request)
            opened.recv(65536)
        each = (rss(sidecar.pid) - before) / count * 1000
    return f"An idle connection holds {each:.1f} KB ({count:,} measured)."


def quiet(rig: Rig, sidecar: Contender) -> str:
    """What a client holds, and what is left of that when it has gone quiet."""
    before = rss(sidecar.pid)
    rig.load(sidecar, f"tool=plain clients={QUIET}", 32, 20)
    after, levels = rss(sidecar.pid), gauge(sidecar, "mcpace_limit_levels")
    deadline = time.monotonic() + PATIENCE
    while gauge(sidecar, "mcpace_limit_levels") > QUIET * 1.02:  # their quotas of the day stay
        if time.monotonic() > deadline:
            raise SystemExit("the buckets of clients gone quiet are not given back")
        time.sleep(1)
        print(f"  waiting for {levels:.0f} levels to be given back", end="\r", file=sys.stderr)
    left = gauge(sidecar, "mcpace_limit_levels")
    again = rss(sidecar.pid)
    rig.load(sidecar, f"tool=plain clients={QUIET}", 32, 3)
    grown = rss(sidecar.pid) - again
    return (
        f"A client holds {(after - before) / levels * 2e6:.0f} bytes ({levels:,.0f} buckets and quotas of"
        f" {QUIET:,} clients measured). Once they are quiet, {left:,.0f} quotas of the day stay; when"
        f" they come again, the process grows by {grown:.1f} MB."
    )


def gauge(sidecar: Contender, name: str) -> float:
    """The value of a gauge without labels."""
    found = re.search(rf"^{name} (\S+)$", metrics(sidecar), re.MULTILINE)
    if found is None:
        raise SystemExit(f"/metrics has no {name}")
    return float(found[1])


if __name__ == "__main__":
    main()
