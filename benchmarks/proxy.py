"""What the sidecar costs a call, beside nginx and Envoy, in one run.

Windows alternate; medians are printed, and of the ratios to nginx within each round.
"""

from __future__ import annotations

import statistics
import sys

from rig import RESULTS, Contender, Rig, arguments, machine, publish, rss, table


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__).parse_args()
    rates: dict[str, list[float]] = {}
    memory: dict[str, float] = {}
    with Rig(options.compiled) as rig:
        redis = rig.redis()
        nginx, envoy = rig.nginx(), rig.envoy()
        rows: dict[str, tuple[Contender, str]] = {"nginx, pass-through": (nginx, "tool=plain")}
        if envoy is not None:
            rows["Envoy, pass-through"] = (envoy, "tool=plain")
        sidecars: dict[str, Contender] = {}
        measured: list[Contender] = []
        for build in rig.builds:
            who = sidecars[build] = rig.sidecar(build)
            leased, exact = rig.sidecar(build, redis=redis), rig.sidecar(build, redis=redis, exact=True)
            rows[f"mcpace {build}, pass-through"] = (who, "tool=plain")
            rows[f"mcpace {build}, unique traceparent"] = (who, "tool=plain unique=1")
            rows[f"mcpace {build}, cache hit"] = (who, "tool=cached")
            rows[f"mcpace {build}, one event"] = (who, "tool=events")
            rows[f"mcpace {build}, leased limits in Redis"] = (leased, "tool=plain")
            rows[f"mcpace {build}, exact limits in Redis"] = (exact, "tool=plain")
            measured += [who, leased, exact]
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
            for what, (contender, call) in rows.items():
                rates.setdefault(what, []).append(rig.load(contender, call, seconds=options.seconds))
            for build, who in sidecars.items():
                memory[build] = max(memory.get(build, 0), rss(who.pid))
        for who in measured:
            rig.check(who)
    results = []
    for what, windows in rates.items():
        pairs = zip(windows, rates["nginx, pass-through"], strict=True)
        ratio = statistics.median(ours / theirs for ours, theirs in pairs)
        results.append((what, statistics.median(windows), ratio))
    lines = [("", "calls/s", "ratio to nginx")]
    lines += [(what, f"{rate:,.0f}", f"{ratio:.2f}") for what, rate, ratio in results]
    words = [
        f"{build}: {memory[build]:.0f} MB resident, ready after {sidecars[build].ready:.2f} s."
        for build in rig.builds
    ]
    notes = f"{machine()}; {options.rounds} rounds of {options.seconds:g} s. {' '.join(words)}"
    publish("proxy", f"{table(*lines)}\n\n{notes}", write=options.write)
    if options.write:
        RESULTS.with_suffix(".svg").write_text(picture(results))


def picture(results: list[tuple[str, float, float]]) -> str:
    """The results as bars."""
    longest = max(rate for _, rate, _ in results)
    rows = []
    for number, (words, rate, ratio) in enumerate(results):
        y, width = 34 + 28 * number, 330 * rate / longest
        colour = "#2f6fde" if words.startswith("mcpace") else "#8a8f98"
        rows.append(
            f'<text x="270" y="{y + 14}" text-anchor="end">{words}</text>'
            f'<rect x="280" y="{y}" width="{width:.0f}" height="19" rx="3" fill="{colour}"/>'
            f'<text x="{288 + width:.0f}" y="{y + 14}">{rate / 1000:.0f}k/s ({ratio:.2f})</text>'
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
