"""A cluster with the chart installed, and a pod in it from which to call.

`make e2e` brings a cluster of its own; MCPACE_E2E_KUBECONFIG names any other, which must hold
the project's images and MCPACE_E2E_VALUES, where its values differ from the test cluster's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.cluster import NARROW, Cluster, readme
from tools.cluster.node import Node

CLIENT = """
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: default}
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - name: client
      image: mcpace/example-weather:0.1.0
      command: [/opt/weather/bin/python, -c, "import time; time.sleep(86400)"]
"""


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    kubeconfig = os.environ.get("MCPACE_E2E_KUBECONFIG") or str(Node().kubeconfig)
    cluster = Cluster(Path(kubeconfig), tmp_path_factory.mktemp("kubectl"))
    cluster.run("create", "namespace", "elsewhere")  # the chart's roles go there
    cluster.helm(*readme("helm"), *cluster.values(), NARROW, "--wait", "--timeout=120s")
    cluster.ok("apply", "-f", "-", stdin=CLIENT)
    cluster.ok("wait", "--for=condition=Ready", "pod/client", "--timeout=60s")
    yield cluster
    cluster.run("delete", "pod", "client", "--wait=false")


@pytest.fixture(scope="session")
def weather(cluster: Cluster) -> str:
    """The README's server, with two replicas."""
    cluster.ok(*readme("kubectl apply"))
    cluster.ready("weather")
    return "http://weather.default.svc/mcp"
