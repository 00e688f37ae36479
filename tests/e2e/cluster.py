"""A cluster with the chart installed, and how to call from a pod in it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tools.cluster.binaries import program
from tools.cluster.kubectl import Kubectl
from tools.cluster.node import Node

ROOT = Path(__file__).parents[2]
SYSTEM = "mcpace-system"
NARROW = "--set=watchNamespaces={default,elsewhere}"
"""No rights beyond these; the upgrade and the walk have an operator that looks after all namespaces."""
CALLER = (Path(__file__).parent / "caller.py").read_text()


def until(
    condition: Callable[[], Any], what: str, seconds: float = 60, calls: Future[Any] | None = None
) -> Any:
    """Wait until the condition is true, and return it; fail with what was waited for.

    Where it waits for what `calls` bring about, and they fail, it fails with them.
    """
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if calls is not None and calls.done():
            calls.result()
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain: {what}"
        time.sleep(0.2)


def readme(beginning: str) -> list[str]:
    """The arguments of the README's command that begins so."""
    lines = (ROOT / "README.md").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith(beginning + " ")]
    return line.split()[1:]


class Cluster(Kubectl):
    """A cluster with mcpace in it."""

    _executor = ThreadPoolExecutor(2)
    foreign = os.environ.get("MCPACE_E2E_KUBECONFIG") not in (None, str(Node().kubeconfig))
    """Whether it is somebody else's, with programs of its own."""

    def helm_run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run helm, whatever comes of it."""
        return subprocess.run(
            [str(program("helm")), *arguments],
            env=self._environment, cwd=ROOT, capture_output=True, text=True,
        )  # fmt: skip

    def helm(self, *arguments: str) -> str:
        """Run helm, which must succeed; return what it printed."""
        done = self.helm_run(*arguments)
        assert done.returncode == 0, f"helm {' '.join(arguments)}: {done.stderr}\n{self.explain()}"
        return done.stdout

    def values(self) -> list[str]:
        return ["-f", os.environ.get("MCPACE_E2E_VALUES") or str(ROOT / "tests/e2e/values.yaml")]

    def explain(self) -> str:
        """What a person would ask first."""
        pods = self.run("get", "pods", "-A", "-o", "wide").stdout
        log = self.run("logs", "-n", SYSTEM, "deploy/mcpace", "--tail=30").stdout
        return f"{pods}\n{log}"

    def ready(self, name: str, namespace: str = "default") -> None:
        """Wait until a server is ready."""
        wanted = ("True", "AllReplicasReady")
        try:
            until(
                lambda: self.conditions(name, namespace).get("Ready") == wanted, f"{name} to be Ready", 120
            )
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.conditions(name, namespace)}\n{self.explain()}") from None

    def pods(self, name: str, namespace: str = "default") -> list[Any]:
        """The running pods of a server."""
        pods = self.items("pods", "-n", namespace, "-l", f"mcpace.dev/server={name}")
        return [p for p in pods if not p["metadata"].get("deletionTimestamp")]

    def urls(self, name: str, namespace: str = "default") -> list[str]:
        """The data ports of a server's pods, one by one."""
        return [f"http://{p['status']['podIP']}:18080/mcp" for p in self.pods(name, namespace)]

    def ask(self, **ask: Any) -> list[dict[str, Any]]:
        """Call with the official client, from a pod."""
        command = ("exec", "-i", "client", "--", "/opt/weather/bin/python", "-", json.dumps(ask))
        return list(json.loads(self.ok(*command, stdin=CALLER)))

    def ask_meanwhile(self, **ask: Any) -> Future[list[dict[str, Any]]]:
        """The same, while the test goes on."""
        return self._executor.submit(lambda: self.ask(**ask))

    def metrics(self, pod: Any) -> dict[str, float]:
        """What a pod's sidecar tells Prometheus: sample -> value."""
        url = f"http://{pod['status']['podIP']}:18090/metrics"
        script = f"import urllib.request; print(urllib.request.urlopen({url!r}).read().decode())"
        text = self.ok("exec", "client", "--", "/opt/weather/bin/python", "-c", script)
        samples = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}
