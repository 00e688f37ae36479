"""What a proxy adds to a call's time at a steady 300 calls a second, beside nginx and Envoy.

Windows alternate with ones without any proxy; what those take is subtracted. Medians.
"""

from __future__ import annotations

import statistics

from rig import UPSTREAM, Rig, arguments, publish, table

RATE = 300


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__, seconds=4).parse_args()
    took: dict[str, list[tuple[int, int, int]]] = {}
    with Rig(options.compiled) as rig:
        ports = {"direct": UPSTREAM, "nginx": rig.nginx().port}
        envoy = rig.envoy()
        if envoy is not None:
            ports["Envoy"] = envoy.port
        ports |= {f"mcpace {build}": rig.sidecar(build).port for build in rig.builds}
        for port in ports.values():
            rig.pace(port, RATE, 1)
        for _ in range(options.rounds):
            for name, port in ports.items():
                took.setdefault(name, []).append(rig.pace(port, RATE, options.seconds))
    rows: list[tuple[object, ...]] = [
        ("", "adds at p50, µs", "adds at p99, µs", "p99 added, beside nginx's")
    ]
    added = {
        name: [
            statistics.median(
                each[part] - direct[part] for each, direct in zip(all_, took["direct"], strict=True)
            )
            for part in (0, 1)
        ]
        for name, all_ in took.items()
    }
    for name, (p50, p99) in added.items():
        if name != "direct":
            rows.append((name, f"{p50:.0f}", f"{p99:.0f}", f"{p99 / added['nginx'][1]:.2f}"))
    direct = [statistics.median(each[part] for each in took["direct"]) for part in (0, 1)]
    words = f"{RATE} calls/s; without a proxy p50 is {direct[0]:.0f} µs and p99 {direct[1]:.0f} µs."
    publish("latency", f"{table(*rows)}\n\n{words}", write=options.write)


if __name__ == "__main__":
    main()
