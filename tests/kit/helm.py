"""Helm as a person would use it, in a namespace of its own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any, Final

from tools.cluster.binaries import program
from tools.cluster.kubectl import Kubectl

CHART: Final = str(Path(__file__).parents[2] / "charts/mcpace")
WITHOUT_CRD: Final = "--set=crds.enabled=false"
"""For tests whose API server has the CRD already."""


class Helm:
    """Helm on the API server, in a namespace of its own."""

    def __init__(self, api: Kubectl, namespace: str) -> None:
        self.api = api
        self.namespace = namespace
        api.ok("create", "namespace", namespace)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run helm, whatever comes of it."""
        # No node would run what an upgrade begins with.
        hooks = ["--no-hooks"] if arguments[0] == "upgrade" else []
        return subprocess.run(
            [str(program("helm")), *arguments, *hooks, "-n", self.namespace],
            env=os.environ | {"KUBECONFIG": str(self.api.kubeconfig)}, capture_output=True, text=True,
        )  # fmt: skip

    def __call__(self, *arguments: str) -> str:
        """Run helm, which must succeed; return what it printed."""
        done = self.run(*arguments)
        assert done.returncode == 0, f"helm {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def secret(self) -> dict[str, Any] | None:
        found = self.api.get("secret/mcpace", self.namespace)
        return dict(found) if found else None

    def data(self) -> dict[str, str]:
        found = self.secret()
        assert found is not None
        return dict(found["data"])

    def end(self) -> None:
        """Take everything away."""
        self.run("uninstall", "mcpace", "--ignore-not-found")
        self.api.ok("delete", "namespace", self.namespace, "--wait=false")
        self.api.run("delete", "clusterrole,clusterrolebinding", f"mcpace-{self.namespace}")
