"""The whole way on a Kubernetes of your own: create, build, load, install, apply, call, delete.

`make kind` runs it with kind and Docker. With `--kubeconfig FILE` it takes a cluster that there is,
with the images in it, and leaves it as it was. KIND_NODE_IMAGE chooses the node's image.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rich.console import Console

ROOT: Final = Path(__file__).parents[1]
NAME: Final = "mcpace"
SYSTEM: Final = "mcpace-system"
VERSION: Final = "0.1.0"
IMAGES: Final = {
    f"mcpace/sidecar:{VERSION}": ("--target=sidecar", "."),
    f"mcpace/operator:{VERSION}": ("--target=operator", "."),
    f"mcpace/example-weather:{VERSION}": ("-f", "examples/weather/Dockerfile", "."),
}
READY: Final = 180.0

HINTS: Final = {
    r"annot connect to the Docker daemon|docker daemon": "Start Docker.",
    r"address already in use|port is already allocated":
        "Something uses a port that kind needs: end it, or change kind-config.yaml.",
    r"already exist for a cluster": "It is there already: `kind delete cluster --name mcpace`.",
    r"pull access denied|manifest unknown|failed to pull image":
        "The image is not to be had: name another one in KIND_NODE_IMAGE.",
    r"no such image|not present locally": "An image is missing: build it anew, by this same command.",
    r"no matches for kind": "The CRD is missing: install the chart with crds.enabled=true.",
    r"cannot re-use a name|another operation .* is in progress":
        "An older installation is in the way: `helm uninstall mcpace -n mcpace-system`.",
    r"timed out waiting|context deadline exceeded":
        "Pods did not become ready: `kubectl get pods -A`, then `kubectl describe pod`.",
}  # fmt: skip
"""What a tool says -> what to do."""

out = Console(highlight=False, soft_wrap=True)


class StepError(Exception):
    """A step failed; the words say why and what to do."""


def step(words: str, *command: str, stdin: str | None = None) -> str:
    """Say what is done, do it, and return what it printed. StepError."""
    out.print(f"[bold]{words}[/]  [dim]{' '.join(command)}[/]")
    if shutil.which(command[0]) is None:
        raise StepError(f"{command[0]} is not installed. {MISSING.get(command[0], '')}".rstrip())
    done = subprocess.run(command, cwd=ROOT, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        hints = [hint for pattern, hint in HINTS.items() if re.search(pattern, said)]
        raise StepError("\n".join([said, *hints[:1]]))
    return done.stdout


MISSING: Final = {
    "docker": "Install Docker (docs.docker.com/engine/install), or give a cluster by --kubeconfig.",
    "kind": "Install kind (kind.sigs.k8s.io), or give a cluster by --kubeconfig.",
    "kubectl": "Install kubectl (kubernetes.io/docs/tasks/tools).",
    "helm": "Install Helm 3 (helm.sh/docs/intro/install).",
}


def main() -> int:
    """Go the whole way; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kubeconfig", help="a cluster that there is, with the images in it")
    parser.add_argument("--values", action="append", default=[], help="values of the chart, a file")
    parser.add_argument("--keep", action="store_true", help="leave the cluster and all in it")
    options = parser.parse_args()
    began = time.monotonic()
    try:
        if options.kubeconfig:
            os.environ["KUBECONFIG"] = options.kubeconfig
            walk(options.values, keep=options.keep)
        else:
            create()
            try:
                walk(options.values, keep=True)
            finally:
                if not options.keep:
                    step("Deleting the cluster", "kind", "delete", "cluster", "--name", NAME)
    except StepError as error:
        out.print(f"[red]{error}[/]", markup=True)
        return 1
    except KeyboardInterrupt:
        return 130
    out.print(f"\nDone in {time.monotonic() - began:.0f} s.")
    return 0


def create() -> None:
    """A cluster with the images in it."""
    step("Asking for Docker", "docker", "version", "--format", "{{.Server.Version}}")
    chosen = os.environ.get("KIND_NODE_IMAGE")
    image = ["--image", chosen] if chosen else []
    step("Creating the cluster", "kind", "create", "cluster", "--config", "kind-config.yaml", *image)
    for name, arguments in IMAGES.items():
        step("Building an image", "docker", "build", "--quiet", "-t", name, *arguments)
    step("Loading the images", "kind", "load", "docker-image", "--name", NAME, *IMAGES)


def walk(values: list[str], *, keep: bool) -> None:
    """Install, apply, call, and delete."""
    files = [part for file in values for part in ("-f", file)]
    patience = f"{READY:.0f}s"
    helm = ("helm", "upgrade", "--install", NAME, "charts/mcpace", "-n", SYSTEM, "--create-namespace")
    step("Installing mcpace", *helm, "--wait", "--timeout", patience, *files)
    step("Applying a server", "kubectl", "apply", "-f", "examples/weather/manifest.yaml")
    ready = ("--for=condition=Ready", f"--timeout={patience}")
    step("Waiting for it", "kubectl", "wait", "mcpserver/weather", *ready)
    out.print(step("Looking at it", "kubectl", "get", "mcps"))
    with forwarded("service/weather", 80) as port:
        url = f"http://127.0.0.1:{port}/mcp"
        command = (
            sys.executable,
            "-m",
            "mcpace_cli",
            "call",
            url,
            "get-weather",
            "city=Oslo",
            "--wait=30s",
        )
        answer = json.loads(step("Calling it", *command))
        out.print(f"  {answer['structuredContent']}\n")
    if not keep:
        # In the foreground, so that what the server owned is gone with it, its pods included.
        step("Deleting the server", "kubectl", "delete", "--cascade=foreground", "mcpserver", "weather")
        step("Uninstalling mcpace", "helm", "uninstall", NAME, "-n", SYSTEM, "--wait")


@contextmanager
def forwarded(what: str, port: int) -> Iterator[int]:
    """A port on this machine that leads to a port of the cluster's."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        local = int(s.getsockname()[1])
    process = subprocess.Popen(
        ["kubectl", "port-forward", what, f"{local}:{port}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", local), 1).close()
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    process.kill()
                    said = process.stderr.read().decode() if process.stderr else ""
                    raise StepError(f"kubectl port-forward {what} failed. {said}") from None
                time.sleep(0.1)
            else:
                break
        yield local
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    sys.exit(main())
