"""This commit beside others: what each kind of call costs in all of them, compiled, in one run.

All are measured in turns, each beside nginx, and then at a steady 300 calls a second. The run fails if a
kind of call has become dearer than it was in the first of the others by more than is allowed. Others are
built once and kept in ~/.cache/mcpace.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from growth import GROWING
from rig import HERE, Rig, Window, arguments, machine, median, publish, ratio, rss, table

# Kind of call -> what call.lua takes, and over how many connections.
CALLS = {
    "passed": ("tool=plain", 32),
    "cache hit": ("tool=cached", 32),
    "one event": ("tool=events", 32),
    "unique traceparent": ("tool=plain unique=1", 32),
    "unique X-Request-Id": ("tool=plain request=1", 32),
    "behind a gateway": ("tool=plain gateway=1", 32),
    "1,000 clients": ("tool=plain clients=1000", 32),
    "100,000 clients": ("tool=plain clients=100000", 32),
    "request of 10 KB": ("tool=plain size=10000", 16),
    "request of 100 KB": ("tool=plain size=100000", 16),
    "request of 1 MiB": ("tool=plain size=1048576", 16),
    "answer of 100 KB": ("tool=answer100000", 16),
    "answer of 1 MB": ("tool=answer1000000", 16),
    "answer of 4 MB": ("tool=answer4000000", 16),
}
REACHED = {
    "passed": (0.81, 0.88),
    "cache hit": (1.41, 1.58),
    "one event": (0.73, 0.77),
    "unique traceparent": (0.74, 0.78),
    "unique X-Request-Id": (0.42, 0.83),
    "behind a gateway": (0.34, 0.69),
    "1,000 clients": (0.62, 0.68),
    "100,000 clients": (0.29, 0.57),
    "request of 10 KB": (0.70, 0.78),
    "request of 100 KB": (0.50, 0.57),
    "request of 1 MiB": (0.73, 1.06),
    "answer of 100 KB": (1.28, 1.88),
    "answer of 1 MB": (0.68, 1.21),
    "answer of 4 MB": (0.53, 0.71),
}
"""Ratios to nginx of `BEGUN`, and of throw-away experiments on it: how quick calls are known to get."""
BEGUN = "d6e7e36"
NOISE = 0.03
RATE = 300
KEPT = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mcpace"
ALLOWED = 3.0


def main() -> None:
    """Build, measure, print, and fail where this commit is dearer."""
    parser = arguments(__doc__, rounds=5, seconds=1)
    parser.add_argument("--base", required=True, nargs="+", help="the commits to compare with")
    parser.add_argument(
        "--allowed", type=float, default=ALLOWED, help="by how many per cent a call may be dearer"
    )
    parser.add_argument("--only", nargs="*", default=list(CALLS), choices=list(CALLS), help="kinds of call")
    options = parser.parse_args()
    if options.compiled is None:
        parser.error("--compiled says which Python holds this commit's compiled form")
    commits = [git("rev-parse", "--short=12", f"{base}^{{commit}}") for base in options.base]
    windows: dict[tuple[str, str], list[Window]] = {}
    took: dict[str, list[tuple[int, int, int]]] = {}
    with Rig(None) as rig:
        rig.builds = {commit[:7]: built(commit) for commit in commits} | {"this": options.compiled}
        contenders = {"nginx": rig.nginx()} | {build: rig.sidecar(build, GROWING) for build in rig.builds}
        memory = {name: f"{rss(who.pid):.0f}" for name, who in contenders.items()}
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
            for what in options.only:
                call, connections = CALLS[what]
                for name, who in contenders.items():
                    window = rig.window(who, call, connections, options.seconds)
                    windows.setdefault((what, name), []).append(window)
            for name, who in contenders.items():
                took.setdefault(name, []).append(rig.pace(who.port, RATE, options.seconds))
        for build in rig.builds:
            rig.check(contenders[build])
    first, *_ = builds = list(rig.builds)
    wanted = first == BEGUN
    rows: list[tuple[object, ...]] = [
        (
            "CPU µs a call, and ratio to nginx",
            *(what for build in builds for what in (build, "ratio")),
            *(("wanted",) if wanted else ()),
            "dearer by",
        )
    ]
    dearer = {}
    for what in options.only:
        nginx = windows[what, "nginx"]
        pairs = zip(windows[what, first], windows[what, "this"], strict=True)
        dearer[what] = (statistics.median(ours.cost / theirs.cost for theirs, ours in pairs) - 1) * 100
        measured = [windows[what, build] for build in builds]
        before, reached = REACHED[what]
        goal = float(ratio(measured[0], nginx).lstrip("~")) * (reached - NOISE) / before
        rows.append(
            (
                what,
                *(word for each in measured for word in (median(each)[1], ratio(each, nginx))),
                *((f"{goal:.2f}",) if wanted else ()),
                f"{dearer[what]:+.1f} %",
            )
        )
    steady: list[tuple[object, ...]] = [("", "p50, µs", "p99, µs", "MB when ready")]
    for name, all_ in took.items():
        halves = (f"{statistics.median(each[part] for each in all_):.0f}" for part in (0, 1))
        steady.append((name, *halves, memory[name]))
    publish(
        "against",
        f"{table(*rows)}\n\nAt {RATE} calls a second:\n\n{table(*steady)}\n\n"
        f"{machine()}; {options.rounds} rounds of {options.seconds:g} s.",
        write=False,
    )
    worse = [what for what, by in dearer.items() if by > options.allowed]
    if worse:
        raise SystemExit(f"dearer than {first} by more than {options.allowed:g} %: {', '.join(worse)}")


def built(commit: str) -> Path:
    """The Python of an environment with that commit's compiled form."""
    folder = KEPT / f"commit-{commit}"
    python = folder / "bin/python"
    if (folder / "built").exists():
        return python
    uv = shutil.which("uv") or HERE.parent / ".uv/bin/uv"
    system = ["--python", "/usr/bin/python3"] if Path("/usr/bin/python3").exists() else []
    print(f"Compiling {commit} ...", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="mcpace-commit-") as temporary:
        source = Path(temporary, "source")
        git("worktree", "add", "--quiet", "--detach", str(source), commit)
        try:
            into = os.environ | {
                "UV_PROJECT_ENVIRONMENT": str(folder),
                "UV_COMPILE_BYTECODE": "1",  # as the images are
                "MCPACE_COMPILE": "1",
            }
            synced = [
                uv,
                "sync",
                "--frozen",
                "--quiet",
                "--no-install-project",
                "--no-default-groups",
                *system,
            ]
            subprocess.run(synced, cwd=source, env=into, check=True)
            install = [uv, "pip", "install", "--quiet", "--no-deps", "--no-cache", "--python", python, "."]
            subprocess.run(install, cwd=source, env=into, check=True)
        finally:
            git("worktree", "remove", "--force", str(source))
    (folder / "built").touch()
    return python


def git(*words: str) -> str:
    """What git says, run where the benchmarks are."""
    command = ["git", "-C", str(HERE), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main()
