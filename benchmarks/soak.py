"""Ten minutes of every kind of call at once: memory must end within 5 % of what it was at minute two.

In less time it must end within half as much again of what it was half way.

Cached, private, streamed, paged, failing, large, traced and refused calls of a thousand clients,
over Redis, while the configuration changes every twenty seconds and connections come and go.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

from rig import CONFIG, Rig, arguments, publish, rss

MIX = CONFIG.replace(
    "cache:\n",
    "responses: {page: {tools: [{name: paged, items: 100}]}}\nconcurrency: {parallelTool: true}\ncache:\n",
)
ALLOWED = 1.05
ALLOWED_IN_SHORT = 1.5
"""Of what it was half way: in less than ten minutes tables are still filling."""
WHOLE = 600
CHANGE_EVERY = 20.0


def main() -> None:
    """Load, watch, and fail if memory grows."""
    parser = arguments(__doc__, rounds=1, seconds=600)
    options = parser.parse_args()
    if options.seconds < 30:
        parser.error("a soak of less than 30 seconds says nothing")
    with Rig(options.compiled) as rig:
        build = "compiled" if options.compiled else "python"
        sidecar = rig.sidecar(build, MIX, rig.redis())
        config = rig.folder / f"config-{sidecar.port}.yaml"
        ending = time.monotonic() + options.seconds
        failures: list[BaseException] = []
        rates: list[float] = []

        def work() -> None:
            # Windows instead of one run: connections close and are opened anew.
            try:
                while time.monotonic() < ending:
                    rates.append(
                        rig.load(sidecar, "mix=1 clients=1000", 64, min(15, options.seconds // 4)).rate
                    )
            except (SystemExit, subprocess.CalledProcessError) as error:
                failures.append(error)

        worker = threading.Thread(target=work)
        worker.start()
        memory, changes = watch(sidecar.pid, config, ending, options.seconds)
        worker.join()
        if failures:
            raise SystemExit(f"the load failed: {failures[0]}")
    whole = options.seconds >= WHOLE
    tenth = len(memory) // 10
    begun = tenth if whole else 5 * tenth  # a short one has no minute to fill its tables in
    early = statistics.median(memory[begun : begun + tenth])
    late = statistics.median(memory[-tenth:])
    allowed = ALLOWED if whole else ALLOWED_IN_SHORT
    calls = statistics.median(rates)
    words = (
        f"{options.seconds / 60:.0f} minutes of mixed load at {calls:,.0f} calls/s, the configuration"
        f" changed {changes} times: {early:.1f} MB {'in minute two' if whole else 'half way'},"
        f" {late:.1f} MB at the end,"
        f" {max(memory):.1f} MB at most."
    )
    publish("soak", words, write=options.write)
    if late > early * allowed:
        raise SystemExit(f"memory has grown by {late / early - 1:.1%}")


def watch(pid: int, config: Path, ending: float, seconds: float) -> tuple[list[float], int]:
    """Return the resident memory of each second, and how often the configuration was changed."""
    memory: list[float] = []
    changes, changed = 0, time.monotonic()
    text = config.read_text()
    while time.monotonic() < ending:
        time.sleep(1)
        memory.append(rss(pid))
        if time.monotonic() - changed > min(CHANGE_EVERY, seconds / 10):
            changed, changes = time.monotonic(), changes + 1
            config.write_text(text.replace("ttl: 30s", f"ttl: {20 + changes % 20}s"))
        print(f"  {len(memory)} s: {memory[-1]:.1f} MB", file=sys.stderr, flush=True)
    return memory, changes


if __name__ == "__main__":
    main()
