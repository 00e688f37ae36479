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
    from rig import Rig, arguments, publish, table  # noqa: PLC0415 - because a build's interpreter has no need of it

    options = arguments(__doc__, rounds=1, seconds=3).parse_args()
    rows: list[tuple[object, ...]] = []
    with Rig(options.compiled) as rig:
        for build, python in rig.builds.items():
            sidecar = rig.sidecar(build)
            columns = []
            for tool in ("plain", "cached"):
                rig.load(sidecar, f"tool={tool}")
                before = times(sidecar.pid)
                rate = rig.load(sidecar, f"tool={tool}", seconds=options.seconds)
                spent = [
                    (b - a) / (rate * options.seconds) * 1e6
                    for a, b in zip(before, times(sidecar.pid), strict=True)
                ]
                columns.append(spent)
            own = json.loads(
                subprocess.run(
                    [python, __file__, "stages"], check=True, capture_output=True, text=True
                ).stdout
            )
            for part, words in enumerate(("in the process, of which:", "in the kernel, for it")):
                rows.append((build, words, *(f"{column[part]:.1f}" for column in columns)))
                if part == 0:
                    for name, (passed, hit) in own.items():
                        rows.append(
                            (build, name, f"{passed:.2f}" if passed else "", f"{hit:.2f}" if hit else "")
                        )
    publish("anatomy", table(("", "µs per call", "passed", "cache hit"), *rows), write=options.write)


def times(pid: int) -> tuple[float, float]:
    """CPU seconds of a process: its own, and the kernel's for it."""
    from rig import TICKS  # noqa: PLC0415 - because of the same

    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) / TICKS, int(fields[12]) / TICKS


def stages() -> dict[str, tuple[float, float]]:
    """Microseconds of each stage, of a passed call and of a hit; 0 where there is none."""
    from rig import CONFIG  # noqa: PLC0415 - because of the same

    from mcpace_sidecar import messages  # noqa: PLC0415 - because of the same
    from mcpace_sidecar.config import load  # noqa: PLC0415 - because of the same
    from mcpace_sidecar.events import CallEnded  # noqa: PLC0415 - because of the same
    from mcpace_sidecar.http.head import RequestHeads  # noqa: PLC0415 - because of the same
    from mcpace_sidecar.notes import Notes  # noqa: PLC0415 - because of the same
    from mcpace_sidecar.sidecar import Options, Sidecar  # noqa: PLC0415 - because of the same
    from mcpace_sidecar.upstream import Address  # noqa: PLC0415 - because of the same

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
    settings, heads = plane.settings, RequestHeads()
    body = BODY % b"cached"
    raw = HEAD % (b"cached", len(body))
    request, end = raw + body, len(raw)
    head, _ = heads.read(raw)
    notes = Notes(settings, plane.pool.address, head, loopback=True, trusted=False)
    message = messages.classify(body)
    treatment = settings.treatments.of(message)
    client = settings.identities.by_connection(head, "127.0.0.1").client
    limits = settings.limits
    assert limits is not None
    assert client is not None
    assert treatment.cache is not None
    private, rule = notes.private(client), treatment.cache
    (place, *_) = settings.keys.places(rule, notes.version, message, private)
    plane.results.far((place,), 3600, lambda miss: plane.results.keep(place, miss.marks[0], b"{}", 3600, 0))
    assert plane.results.near(place.key) is not None
    call = CallEnded("cached", "success", 0.002, "memory", 200, 1000, client.name, client.tier)

    def judge() -> None:
        charges = limits.charges(client, treatment.price)
        verdict = plane.limits.take(charges, print)
        charges.lines(verdict.left, verdict.at)

    def look_up() -> None:
        settings.keys.places(rule, notes.version, message, private)
        plane.results.near(place.key)

    return {
        "finding a head that was read before": (took(lambda: heads.read(request[:end])),) * 2,
        "classifying the message": (took(lambda: messages.classify(body)),) * 2,
        "taking tokens, and saying what is left": (took(judge),) * 2,
        "the key of its result, and a look into memory": (0.0, took(look_up)),
        "reading how the answer ended": (took(lambda: messages.succeeded(ANSWER)), 0.0),
        "metrics and statistics": (took(lambda: plane.on_call(call)),) * 2,
    }


def took(work: Callable[[], object]) -> float:
    """Microseconds of one call, at best."""
    idle = min(timeit.repeat(lambda: None, number=TIMES, repeat=5))
    return (min(timeit.repeat(work, number=TIMES, repeat=5)) - idle) / TIMES * 1e6


if __name__ == "__main__":
    main()
