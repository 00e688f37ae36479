"""What `make kind` does after it has a cluster, on this one. After the uninstall, because it installs."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.e2e.cluster import ROOT, Cluster


def test_the_walk_installs_applies_calls_and_takes_all_away(cluster: Cluster):
    values = os.environ.get("MCPACE_E2E_VALUES") or str(ROOT / "tests/e2e/values.yaml")
    command = [
        sys.executable,
        "examples/kind.py",
        "--kubeconfig",
        str(cluster.kubeconfig),
        "--values",
        values,
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "'city': 'Oslo', 'degrees': -3, 'sky': 'snow'" in done.stdout
    assert "Done in" in done.stdout
    assert cluster.get("deployment/weather") is None
    assert cluster.items("pods", "-l", "mcpace.dev/server=weather") == []
    cluster.ok("delete", "crd", "mcpservers.mcpace.dev")
