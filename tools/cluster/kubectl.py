"""An API server spoken to with kubectl, as a person would."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import yaml
from tools.cluster.binaries import program

ROOT = Path(__file__).parents[2]
KINDS = (
    "deployments,services,configmaps,serviceaccounts,horizontalpodautoscalers,poddisruptionbudgets,"
    "networkpolicies"
)


class Kubectl:
    """kubectl with one kubeconfig."""

    def __init__(self, kubeconfig: Path, cache: Path) -> None:
        self.kubeconfig = kubeconfig
        self._command = [str(program("kubectl")), f"--cache-dir={cache}"]
        self._environment = os.environ | {"KUBECONFIG": str(kubeconfig)}

    def run(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run kubectl, whatever comes of it."""
        return subprocess.run(
            [*self._command, *arguments],
            input=stdin,
            env=self._environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
        )

    def ok(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl, which must succeed; return what it printed."""
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr or done.stdout}"
        return done.stdout

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start kubectl, to go on by itself."""
        return subprocess.Popen([*self._command, *arguments], env=self._environment, **options)

    def get(
        self, what: str, namespace: str = "default", *, fields: bool = False, missing: bool = False
    ) -> Any:
        """The object, or None where there is none, or with `missing`, where its kind is unknown."""
        shown = ["--show-managed-fields"] if fields else []
        done = self.run("get", *what.split("/"), "-n", namespace, "-o", "json", *shown)
        if done.returncode:
            unknown = missing and "the server doesn't have a resource type" in done.stderr
            assert unknown or "NotFound" in done.stderr, done.stderr
            return None
        return json.loads(done.stdout)

    def items(self, what: str, *arguments: str) -> list[Any]:
        """All objects of a kind."""
        return list(json.loads(self.ok("get", what, *arguments, "-o", "json"))["items"])

    def versions(self, namespace: str = "default") -> dict[str, str]:
        """The resourceVersion of everything that concerns servers in a namespace."""
        items = self.items(f"mcpservers,secrets,{KINDS}", "-n", namespace)
        return {f"{i['kind']}/{i['metadata']['name']}": i["metadata"]["resourceVersion"] for i in items}

    def conditions(self, name: str = "weather", namespace: str = "default") -> dict[str, tuple[str, str]]:
        """A server's conditions: type -> (status, reason)."""
        status = (self.get(f"mcpserver/{name}", namespace) or {}).get("status") or {}
        return {c["type"]: (c["status"], c["reason"]) for c in status.get("conditions") or []}

    def apply(self, name: str, namespace: str = "default", **spec: Any) -> None:
        """Apply a server."""
        self.ok("apply", "-f", "-", stdin=manifest(name, namespace, spec))


def manifest(name: str, namespace: str, spec: dict[str, Any]) -> str:
    """A server's manifest."""
    metadata = {"name": name, "namespace": namespace}
    document = {
        "apiVersion": "mcpace.dev/v1alpha1",
        "kind": "McpServer",
        "metadata": metadata,
        "spec": spec,
    }
    return yaml.safe_dump(document)
