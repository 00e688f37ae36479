"""The test cluster from the command line: a real Kubernetes on this machine, in seconds. Needs root.

python -m tools.cluster up              start it
python -m tools.cluster shell           a shell with kubectl and helm in it
python -m tools.cluster run COMMAND…    run a command in it, with KUBECONFIG set
python -m tools.cluster with COMMAND…   up, the command within, down
python -m tools.cluster e2e PYTEST…     the same with pytest
python -m tools.cluster down            end it; nothing is left
"""

from __future__ import annotations

import os
import subprocess
import sys

from tools.cluster.binaries import program
from tools.cluster.images import ROOT
from tools.cluster.node import Node


def main() -> int:
    """Do what the arguments say; return the exit code."""
    verb, *rest = sys.argv[1:] or ["help"]
    if verb not in ("up", "down", "shell", "run", "with", "e2e"):
        print(__doc__)
        return 0 if verb in ("help", "-h", "--help") else 2
    if verb == "e2e" and os.environ.get("MCPACE_E2E_KUBECONFIG"):
        return subprocess.call([sys.executable, "-m", "pytest", *rest])
    if os.geteuid() != 0:
        print("The test cluster needs root: it makes namespaces, bridges and containers.", file=sys.stderr)
        return 1
    node = Node()
    if verb == "down":
        node.down()
        return 0
    if verb in ("up", "with", "e2e"):
        node.up()
        if verb == "up":
            return 0
    if node.pid is None:
        print("The test cluster is down; start it: python -m tools.cluster up", file=sys.stderr)
        return 1
    if verb == "shell":
        rest = [os.environ.get("SHELL", "/bin/bash")]
    if verb == "e2e":
        rest = [sys.executable, "-m", "pytest", *rest]
    try:
        return run(node, rest)
    finally:
        if verb in ("with", "e2e"):
            if os.environ.get("MCPACE_KEEP_CLUSTER"):
                print(
                    "The cluster is kept: python -m tools.cluster shell, and down at the end",
                    file=sys.stderr,
                )
            else:
                node.down()


def run(node: Node, command: list[str]) -> int:
    """Run a command within, from this folder, with kubectl and helm on its path."""
    tools = [str(program(name).parent) for name in ("kubectl", "helm")]
    environment = os.environ | {
        "KUBECONFIG": str(node.kubeconfig),
        "MCPACE_E2E_KUBECONFIG": str(node.kubeconfig),
        "PATH": os.pathsep.join([*tools, os.environ["PATH"]]),
    }
    return subprocess.call([*node.enter(), "env", f"--chdir={ROOT}", *command], env=environment)


if __name__ == "__main__":
    sys.exit(main())
