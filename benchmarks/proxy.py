"""What the sidecar costs a call, beside nginx and Envoy, in one run.

Windows alternate; medians are printed, and of the ratios to nginx, given the same call, within each
round. A ratio marked ~ is of CPU time: a core was not busy.
"""

from __future__ import annotations

import statistics
import sys

from rig import (
    RESULTS,
    Contender,
    Rig,
    Window,
    arguments,
    machine,
    median,
    publish,
    ratio,
    rss,
    table,
)

PLAIN, GATEWAY = "nginx, pass-through", "nginx, behind a gateway"


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__).parse_args()
    windows: dict[str, list[Window]] = {}
    memory: dict[str, float] = {}
    with Rig(options.compiled) as rig:
        redis = rig.redis()
        nginx, envoy = rig.nginx(), rig.envoy()
        # What is measured -> who, its call, and what it is measured beside.
        rows: dict[str, tuple[Contender, str, str]] = {
            PLAIN: (nginx, "tool=plain", PLAIN),
            GATEWAY: (nginx, "tool=plain gateway=1", GATEWAY),
        }
        if envoy is not None:
            rows["Envoy, pass-through"] = (envoy, "tool=plain", PLAIN)
        sidecars: dict[str, Contender] = {}
        measured: list[Contender] = []
        for build in rig.builds:
            who = sidecars[build] = rig.sidecar(build)
            leased, exact = rig.sidecar(build, redis=redis), rig.sidecar(build, redis=redis, exact=True)
            rows[f"mcpace {build}, pass-through"] = (who, "tool=plain", PLAIN)
            rows[f"mcpace {build}, unique traceparent"] = (who, "tool=plain unique=1", PLAIN)
            rows[f"mcpace {build}, unique X-Request-Id"] = (who, "tool=plain request=1", PLAIN)
            rows[f"mcpace {build}, behind a gateway"] = (who, "tool=plain gateway=1", GATEWAY)
            rows[f"mcpace {build}, cache hit"] = (who, "tool=cached", PLAIN)
            rows[f"mcpace {build}, one event"] = (who, "tool=events", PLAIN)
            rows[f"mcpace {build}, leased limits in Redis"] = (leased, "tool=plain", PLAIN)
            rows[f"mcpace {build}, exact limits in Redis"] = (exact, "tool=plain", PLAIN)
            measured += [who, leased, exact]
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
            for what, (contender, call, _) in rows.items():
                windows.setdefault(what, []).append(rig.window(contender, call, seconds=options.seconds))
            for build, who in sidecars.items():
                memory[build] = max(memory.get(build, 0), rss(who.pid))
        for who in measured:
            rig.check(who)
    lines = [("", "calls/s", "CPU µs a call", "ratio to nginx")]
    results = []
    for what, (_, _, beside) in rows.items():
        times = ratio(windows[what], windows[beside])
        lines.append((what, *median(windows[what]), times))
        results.append((what, statistics.median(window.rate for window in windows[what]), times))
    words = [
        f"{build}: {memory[build]:.0f} MB resident, ready after {sidecars[build].ready:.2f} s."
        for build in rig.builds
    ]
    notes = f"{machine()}; {options.rounds} rounds of {options.seconds:g} s. {' '.join(words)}"
    publish("proxy", f"{table(*lines)}\n\n{notes}", write=options.write)
    if options.write:
        RESULTS.with_suffix(".svg").write_text(picture(results))


def picture(results: list[tuple[str, float, str]]) -> str:
    """The results as bars."""
    longest = max(rate for _, rate, _ in results)
    rows = []
    for number, (words, rate, times) in enumerate(results):
        y, width = 34 + 28 * number, 330 * rate / longest
        colour = "#2f6fde" if words.startswith("mcpace") else "#8a8f98"
        rows.append(
            f'<text x="270" y="{y + 14}" text-anchor="end">{words}</text>'
            f'<rect x="280" y="{y}" width="{width:.0f}" height="19" rx="3" fill="{colour}"/>'
            f'<text x="{288 + width:.0f}" y="{y + 14}">{rate / 1000:.0f}k/s ({times})</text>'
        )
    height = 44 + 28 * len(results)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="740" height="{height}"'
        ' font-family="sans-serif" font-size="13">'
        f'<rect width="740" height="{height}" fill="white"/>'
        '<text x="10" y="20" font-weight="bold">'
        "tools/call of 200 bytes, 1 KiB answers, one core each</text>" + "".join(rows) + "</svg>\n"
    )


if __name__ == "__main__":
    main()
