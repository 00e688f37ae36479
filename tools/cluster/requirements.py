"""What a task needs beside Python: Debian packages, installed with root, named without.

python -m tools.cluster.requirements test|bench|e2e
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import Final

# Program that shows whether a package is there -> package.
NEEDS: Final[dict[str, dict[str, str]]] = {
    "test": {
        "redis-server": "redis-server",
        "etcd": "etcd-server",
        "npm": "npm",
        "nginx": "nginx-light",
        "chromium": "chromium",
    },
    "bench": {
        "nginx": "nginx-light",
        "wrk": "wrk",
        "cc": "gcc",
        "taskset": "util-linux",
        "redis-server": "redis-server",
        "etcd": "etcd-server",
        "ip": "iproute2",
    },
    "e2e": {
        "redis-server": "redis-server",
        "etcd": "etcd-server",
        "containerd": "containerd",
        "runc": "runc",
        "/usr/lib/cni/bridge": "containernetworking-plugins",
        "iptables": "iptables",
        "ip": "iproute2",
        "conntrack": "conntrack",
        "buildah": "buildah",
        "debootstrap": "debootstrap",
        "nsenter": "util-linux",
        "mount": "mount",
    },
}


def missing(task: str) -> list[str]:
    """The packages that a task lacks."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    path = os.pathsep.join(filter(None, [os.environ.get("PATH"), "/usr/sbin", "/sbin", assets]))
    needs = NEEDS[task].items()
    return sorted({package for program, package in needs if shutil.which(program, path=path) is None})


def main() -> int:
    """Install what is missing, or say what to install."""
    task = sys.argv[1]
    if task == "e2e" and os.environ.get("MCPACE_E2E_KUBECONFIG"):
        return 0  # somebody else's cluster: nothing is built here
    if task == "e2e" and os.geteuid() != 0:
        print(
            "make e2e runs a Kubernetes in namespaces of its own and needs root.\n"
            "Without root, point it at any cluster: MCPACE_E2E_KUBECONFIG=FILE make e2e",
            file=sys.stderr,
        )
        return 1
    packages = missing(task)
    if not packages:
        return 0
    if os.geteuid() != 0:
        install = f"apt-get install --no-install-recommends {' '.join(packages)}"
        print(f"Missing Debian packages; as root: {install}", file=sys.stderr)
        return 1
    print(f"Installing Debian packages: {' '.join(packages)} ...", flush=True)
    # No daemon may start by itself: tests start their own servers, on their own ports.
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in (
        ["apt-get", "-qq", "update"],
        ["apt-get", "-qq", "install", "--no-install-recommends", "-y", *packages],
    ):
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode:
            sys.stderr.write(done.stdout.decode())
            return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
