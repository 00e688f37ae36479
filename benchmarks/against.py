"""This commit beside another: what each kind of call costs in both, compiled, in one run.

Both forms are measured in turns, each beside nginx. The run fails if a kind of call has become dearer
than is allowed. The other commit is built once and kept in ~/.cache/mcpace.
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
from rig import HERE, Rig, Window, arguments, machine, median, publish, ratio, table

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
KEPT = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mcpace"
ALLOWED = 3.0


def main() -> None:
    """Build, measure, print, and fail where this commit is dearer."""
    parser = arguments(__doc__, rounds=5, seconds=1)
    parser.add_argument("--base", required=True, help="the commit to compare with")
    parser.add_argument(
        "--allowed", type=float, default=ALLOWED, help="by how many per cent a call may be dearer"
    )
    parser.add_argument("--only", nargs="*", default=list(CALLS), choices=list(CALLS), help="kinds of call")
    options = parser.parse_args()
    if options.compiled is None:
        parser.error("--compiled says which Python holds this commit's compiled form")
    commit = git("rev-parse", "--short=12", f"{options.base}^{{commit}}")
    with Rig(None) as rig:
        rig.builds = {"base": built(commit), "this": options.compiled}
        contenders = {"nginx": rig.nginx()} | {build: rig.sidecar(build, GROWING) for build in rig.builds}
        windows: dict[tuple[str, str], list[Window]] = {}
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
            for what in options.only:
                call, connections = CALLS[what]
                for name, who in contenders.items():
                    window = rig.window(who, call, connections, options.seconds)
                    windows.setdefault((what, name), []).append(window)
        for build in rig.builds:
            rig.check(contenders[build])
    rows: list[tuple[object, ...]] = [
        (
            "",
            f"{commit[:7]}: CPU µs a call",
            "ratio to nginx",
            "this: CPU µs a call",
            "ratio to nginx",
            "dearer by",
        )
    ]
    dearer = {}
    for what in options.only:
        nginx, base, this = (windows[what, name] for name in ("nginx", "base", "this"))
        pairs = zip(base, this, strict=True)
        dearer[what] = (statistics.median(ours.cost / theirs.cost for theirs, ours in pairs) - 1) * 100
        rows.append(
            (
                what,
                median(base)[1],
                ratio(base, nginx),
                median(this)[1],
                ratio(this, nginx),
                f"{dearer[what]:+.1f} %",
            )
        )
    publish(
        "against",
        f"{table(*rows)}\n\n{machine()}; {options.rounds} rounds of {options.seconds:g} s.",
        write=False,
    )
    worse = [what for what, by in dearer.items() if by > options.allowed]
    if worse:
        raise SystemExit(f"dearer than {commit} by more than {options.allowed:g} %: {', '.join(worse)}")


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
            into = os.environ | {"UV_PROJECT_ENVIRONMENT": str(folder), "MCPACE_COMPILE": "1"}
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
