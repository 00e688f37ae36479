"""The whole way on a Kubernetes of your own: build, create, load, install, apply, call, delete.

`make kind` runs it with kind and Docker, with a kubeconfig of its own (.kind/kubeconfig), so that yours
stays as it is. With `--kubeconfig FILE` it takes a cluster that there is, with the images in it, and leaves
it as it was. In the environment, KIND_NODE_IMAGE chooses the node's image and BASE the base of ours.
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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import yaml
from rich.console import Console
from rich.markup import escape

from mcpace_sidecar import __version__

ROOT: Final = Path(__file__).parents[1]
NAME: Final = "mcpace"
SYSTEM: Final = "mcpace-system"
KUBECONFIG: Final = ROOT / ".kind/kubeconfig"
DELETE: Final = f"kind delete cluster --name {NAME}"
IMAGES: Final = {
    f"mcpace/sidecar:{__version__}": ("--target=sidecar", "."),
    f"mcpace/operator:{__version__}": ("--target=operator", "."),
    f"mcpace/example-weather:{__version__}": ("-f", "examples/weather/Dockerfile", "."),
}
READY: Final = 180.0

HINTS: Final = {
    r"annot connect to the Docker daemon|docker daemon": "Start Docker.",
    r"address already in use|port is already allocated":
        "Something uses a port that kind needs: end it, or change kind-config.yaml.",
    r"already exist for a cluster": f"It is there already: `{DELETE}`.",
    r"no such image|not present locally": "An image is missing: build it anew, by this same command.",
    r"no matches for kind": "The CRD is missing: install the chart with crds.enabled=true.",
    r"cannot re-use a name|another operation .* is in progress":
        f"An older installation is in the way: `helm uninstall mcpace -n {SYSTEM}`.",
    r"timed out waiting|context deadline exceeded":
        "Pods did not become ready: `kubectl get pods -A`, then `kubectl describe pod`.",
}  # fmt: skip
"""What a tool says -> what to do."""
NOT_TO_BE_HAD: Final = (
    r"pull access denied|manifest unknown|failed to (pull|solve|resolve)|not found|no such host|i/o timeout"
)
"""What is said of an image that cannot be pulled; what to do depends on whose it is."""

out = Console(highlight=False, soft_wrap=True, emoji=False)
"""What tools and servers say is printed without markup, or escaped: they write brackets too."""


class StepError(Exception):
    """A step failed; the words say why and what to do."""


def step(words: str, *command: str, pulls: str = "") -> str:
    """Say what is done, do it, and return what it printed. StepError.

    `pulls` is what to do where an image is not to be had.
    """
    out.print(f"[bold]{words}[/]  [dim]{escape(' '.join(command))}[/]")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        hints = [hint for pattern, hint in HINTS.items() if re.search(pattern, said)]
        if pulls and re.search(NOT_TO_BE_HAD, said):
            hints.append(pulls)
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
            check("kubectl", "helm")
            os.environ["KUBECONFIG"] = options.kubeconfig
            walk(options.values, keep=options.keep)
        else:
            own_cluster(options.values, keep=options.keep)
    except StepError as error:
        out.print(str(error), style="red", markup=False)
        return 1
    except KeyboardInterrupt:
        return 130
    out.print(f"\nDone in {time.monotonic() - began:.0f} s.")
    return 0


def check(*programs: str) -> None:
    """All that is missing, before anything is made. StepError."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        raise StepError("\n".join(f"{each} is not installed. {MISSING[each]}" for each in missing))


def own_cluster(values: list[str], *, keep: bool) -> None:
    """Go the way on a cluster that is made for it, and deleted at the end; StepError.

    One on which a step failed is left to be looked at, with words on how.
    """
    check("docker", "kind", "kubectl", "helm")
    step("Asking for Docker", "docker", "version", "--format", "{{.Server.Version}}")
    if NAME in step("Looking for a cluster of that name", "kind", "get", "clusters").split():
        raise StepError(f"There is a kind cluster {NAME} already, and it may be yours: `{DELETE}`.")
    build()
    KUBECONFIG.parent.mkdir(exist_ok=True)
    KUBECONFIG.unlink(missing_ok=True)
    os.environ["KUBECONFIG"] = str(KUBECONFIG)
    try:
        create()
    except (StepError, KeyboardInterrupt):
        delete()  # there is nothing in it to look at
        raise
    try:
        walk(values, keep=True)
    except KeyboardInterrupt:
        delete()
        raise
    except StepError as error:
        left = f"The cluster is left as it is: `export KUBECONFIG={KUBECONFIG}`. Afterwards `{DELETE}`."
        raise StepError(f"{error}\n{left}") from None
    if keep:
        left = f"The cluster is left: `export KUBECONFIG={KUBECONFIG}`. Afterwards `{DELETE}`."
        out.print(left, markup=False)
    else:
        delete()


def build() -> None:
    """Every image that the cluster will hold, before there is one."""
    base = os.environ.get("BASE")
    chosen = ["--build-arg", f"BASE={base}"] if base else []
    hint = "The base is not to be had: name another image with Python 3.11 or later in BASE."
    for name, arguments in IMAGES.items():
        step("Building an image", "docker", "build", "--quiet", "-t", name, *chosen, *arguments, pulls=hint)
    image = redis()
    known = subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False)
    if known.returncode:
        hint = f"Redis's image is not to be had: pull it from elsewhere, and `docker tag` it {image}."
        step("Pulling Redis", "docker", "pull", "--quiet", image, pulls=hint)


def redis() -> str:
    """The image of the chart's embedded Redis."""
    values = yaml.safe_load((ROOT / "charts/mcpace/values.yaml").read_text(encoding="utf-8"))
    image: Mapping[str, str] = values["redis"]["image"]
    return f"{image['repository']}:{image['tag']}"


def create() -> None:
    """A cluster with the images in it."""
    chosen = os.environ.get("KIND_NODE_IMAGE")
    image = ["--image", chosen] if chosen else []
    kubeconfig = ("--kubeconfig", str(KUBECONFIG))
    command = ("kind", "create", "cluster", "--config", "kind-config.yaml", *kubeconfig, *image)
    hint = "The node's image is not to be had: name another one in KIND_NODE_IMAGE."
    step("Creating the cluster", *command, pulls=hint)
    step("Loading the images", "kind", "load", "docker-image", "--name", NAME, *IMAGES, redis())


def delete() -> None:
    """Take the cluster away; if that fails, say how."""
    try:
        step("Deleting the cluster", *DELETE.split(), "--kubeconfig", str(KUBECONFIG))
    except StepError as error:
        out.print(f"{error}\nThe cluster is left: `{DELETE}`.", style="red", markup=False)


def walk(values: list[str], *, keep: bool) -> None:
    """Install, apply, call, and delete."""
    files = [part for file in values for part in ("-f", file)]
    patience = f"{READY:.0f}s"
    helm = ("helm", "upgrade", "--install", NAME, "charts/mcpace", "-n", SYSTEM, "--create-namespace")
    step("Installing mcpace", *helm, "--wait", "--timeout", patience, *files)
    step("Applying a server", "kubectl", "apply", "-f", "examples/weather/manifest.yaml")
    ready = ("--for=condition=Ready", f"--timeout={patience}")
    step("Waiting for it", "kubectl", "wait", "mcpserver/weather", *ready)
    out.print(step("Looking at it", "kubectl", "get", "mcps"), markup=False)
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
        out.print(f"  {answer['structuredContent']}\n", markup=False)
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
