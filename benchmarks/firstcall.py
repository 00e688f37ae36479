"""From `kubectl apply` to the first answered call: an McpServer, and its server in a bare Deployment.

On real pods of the test cluster, in turns. The bare one has no probes, so its Service sends calls to it
the moment its container runs. Needs root, for the cluster.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import httpx2
import yaml
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from rig import arguments, publish, table
from tests.kit.waiting import until
from tools.cluster.binaries import program
from tools.cluster.kubectl import Kubectl

ROOT: Final = Path(__file__).parents[1]
IMAGE: Final = "mcpace/example-weather:0.1.0"
PATIENCE: Final = 60.0
PAUSE: Final = 0.02


def main() -> None:
    """Install the chart, measure, print, take it away."""
    options = arguments(__doc__, rounds=9, seconds=1).parse_args()
    if os.geteuid() != 0:
        print("Left out without root: real pods need namespaces and containers.", file=sys.stderr)
        return
    if os.environ.get("MCPACE_OWN_CLUSTER") != "1":
        command = [sys.executable, "-m", "tools.cluster", "with", sys.executable, *sys.argv]
        os.execvpe(sys.executable, command, os.environ | {"MCPACE_OWN_CLUSTER": "1"})
    kubeconfig = Path(os.environ["KUBECONFIG"])
    api = Kubectl(kubeconfig, kubeconfig.parent / "bench-cache")
    chart, values = str(ROOT / "charts/mcpace"), str(ROOT / "tests/e2e/values.yaml")
    release = ("mcpace", "-n", "mcpace-system", "--wait")
    helm("install", *release, "--create-namespace", chart, "-f", values)
    try:
        asyncio.run(measure(api, options.rounds, write=options.write))
    finally:
        helm("uninstall", *release)


def helm(*arguments: str) -> None:
    """Run helm, which must succeed."""
    done = subprocess.run([program("helm"), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"helm {' '.join(arguments)}: {done.stderr}")


async def measure(api: Kubectl, rounds: int, *, write: bool) -> None:
    """Both in turns; the first turn of each, with nothing in any cache, is not counted."""
    bare, ours = [], []
    for number in range(rounds + 1):
        for kind, times in ((deployment, bare), (server, ours)):
            seconds = await first_call(api, kind(f"{kind.__name__}-{number}"), f"{kind.__name__}-{number}")
            print(f"  {kind.__name__} {number}: {seconds:.2f} s", file=sys.stderr)
            if number:
                times.append(seconds)
    one, other = statistics.median(bare), statistics.median(ours)
    publish(
        "firstcall",
        table(
            ("", "median", "fastest", "slowest"),
            ("a bare Deployment", f"{one:.2f} s", f"{min(bare):.2f} s", f"{max(bare):.2f} s"),
            ("an McpServer", f"{other:.2f} s", f"{min(ours):.2f} s", f"{max(ours):.2f} s"),
            ("longer by (bound: 1 s)", f"{other - one:.2f} s", "", ""),
        ),
        write=write,
    )


async def first_call(api: Kubectl, documents: list[dict[str, Any]], name: str) -> float:
    """Seconds from the apply to the answer; everything is deleted again."""
    text = yaml.safe_dump_all(documents)
    began = time.monotonic()
    api.ok("apply", "-f", "-", stdin=text)
    address = await until(lambda: service(api, name), f"the Service {name}", PATIENCE, pause=PAUSE)
    await until(lambda: answered(f"http://{address}/mcp"), f"{name} to answer", PATIENCE, pause=PAUSE)
    seconds = time.monotonic() - began
    api.ok("delete", "--wait=true", "--cascade=foreground", "-f", "-", stdin=text)
    return seconds


def service(api: Kubectl, name: str) -> str:
    """Where callers find it, once it is there."""
    return str(((api.get(f"service/{name}") or {}).get("spec") or {}).get("clusterIP") or "")


async def answered(url: str) -> bool:
    """Whether an official client is answered."""
    try:
        async with (
            asyncio.timeout(2),
            httpx2.AsyncClient(timeout=1) as http,
            Client(streamable_http_client(url, http_client=http), mode="2026-07-28") as client,
        ):
            return not (await client.call_tool("forecast", {"city": "Oslo"})).is_error
    except (MCPError, httpx2.HTTPError, OSError, TimeoutError, ExceptionGroup):
        return False


def deployment(name: str) -> list[dict[str, Any]]:
    """What people write who have no operator."""
    metadata, labels = {"name": name}, {"app": name}
    container = {"name": "server", "image": IMAGE, "ports": [{"containerPort": 8000}]}
    return [
        {
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            },
        },
        {
            "apiVersion": "v1", "kind": "Service", "metadata": metadata,
            "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8000}]},
        },
    ]  # fmt: skip


def server(name: str) -> list[dict[str, Any]]:
    """The same server as an McpServer."""
    return [
        {
            "apiVersion": "mcpace.dev/v1alpha1",
            "kind": "McpServer",
            "metadata": {"name": name},
            "spec": {"image": IMAGE},
        }
    ]


if __name__ == "__main__":
    main()
