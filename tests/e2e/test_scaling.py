"""A HorizontalPodAutoscaler that scales real pods, on the numbers of a real metrics-server."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.cluster import Cluster, until
from tools.cluster.binaries import program
from tools.cluster.node import ADDRESS

IMAGE = "mcpace/test-queries:1"
PORT = 10250 + 200
SESSIONS = 100
"""That are held all the while, and call so rarely that they are no load."""
WAITS = 'mcp_tool_calls_total{status="success",tool="wait"}'
OBJECTS = [
    {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": "v1beta1.metrics.k8s.io"},
        "spec": {
            "group": "metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100,
            "insecureSkipTLSVerify": True, "service": {"name": "metrics-server", "namespace": "kube-system"},
        },
    },
    {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "metrics-server", "namespace": "kube-system"},
        "spec": {"ports": [{"name": "https", "port": 443, "targetPort": PORT}]},
    },
    {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "metrics-server-1", "namespace": "kube-system", "labels": {"kubernetes.io/service-name": "metrics-server"},
        },
        "addressType": "IPv4",
        "ports": [{"name": "https", "port": PORT}],
        "endpoints": [{"addresses": [ADDRESS], "conditions": {"ready": True}}],
    },
]  # fmt: skip


@pytest.fixture
def metrics_server(cluster: Cluster, tmp_path: Path) -> Iterator[None]:
    """metrics-server, beside the cluster's own programs."""
    if cluster.foreign:
        pytest.skip("a cluster of somebody else's has a metrics-server of its own, or none")
    kubeconfig = cluster.kubeconfig
    with (tmp_path / "metrics-server.log").open("wb") as log:
        process = subprocess.Popen(
            [
                program("metrics-server"), f"--kubeconfig={kubeconfig}", f"--authentication-kubeconfig={kubeconfig}",
                f"--authorization-kubeconfig={kubeconfig}", "--kubelet-insecure-tls", "--metric-resolution=10s",
                "--kubelet-request-timeout=5s", f"--secure-port={PORT}", f"--cert-dir={tmp_path}",
                "--kubelet-preferred-address-types=InternalIP",
            ],
            stdout=log, stderr=log,
        )  # fmt: skip
    for body in OBJECTS:
        cluster.ok("apply", "-f", "-", stdin=json.dumps(body))
    try:
        until(
            lambda: cluster.run("get", "--raw", "/apis/metrics.k8s.io/v1beta1/nodes/node").returncode == 0,
            "metrics-server",
            90,
        )
        yield
    finally:
        process.kill()
        process.wait()
        for body in OBJECTS:
            cluster.run("delete", "-f", "-", stdin=json.dumps(body))


@pytest.mark.timeout(400)
def test_pods_come_under_load_and_go_after_it(cluster: Cluster, metrics_server: None):
    quick = {
        "stabilizationWindowSeconds": 0,
        "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}],
    }
    scaling = {
        "minReplicas": 1, "maxReplicas": 3, "targetCPUUtilization": 50, "behavior": {"scaleUp": quick, "scaleDown": quick},
    }  # fmt: skip
    cluster.apply("busy", image=IMAGE, autoscaling=scaling)
    cluster.ready("busy")
    url = "http://busy.default.svc/mcp"
    cluster.ok("exec", "client", "--", "rm", "-f", "/tmp/enough", "/tmp/calm")
    calm = cluster.ask_meanwhile(
        urls=[url], clients=SESSIONS, seconds=350, until="/tmp/calm", pause=SESSIONS / 5, tool="wait",
        arguments={"seconds": 0}, mode="legacy", connections="each call",
    )  # fmt: skip
    asking = cluster.ask_meanwhile(
        urls=[url], clients=3, seconds=100, until="/tmp/enough", tool="burn", arguments={"seconds": 0.1}
    )
    until(
        lambda: cluster.get("deployment/busy")["spec"]["replicas"] > 1,
        "more replicas under load",
        90,
        asking,
    )
    cluster.ok("label", "mcpserver", "busy", "look=again")
    cluster.ok("exec", "client", "--", "touch", "/tmp/enough")
    outcomes = asking.result(60)
    failed = [o for o in outcomes if not o["ok"]]
    assert not failed, failed[:3]
    until(
        lambda: cluster.get("deployment/busy")["spec"]["replicas"] == 1, "one replica when it is quiet", 120
    )
    until(
        lambda: len(cluster.items("pods", "-l", "mcpace.dev/server=busy")) == 1,
        "the others to end",
        90,
        calm,
    )
    cluster.ready("busy")
    assert cluster.get("mcpserver/busy")["status"]["replicasReady"] == "1/1"
    (pod,) = cluster.pods("busy")
    before = cluster.metrics(pod).get(WAITS, 0)
    until(
        lambda: cluster.metrics(pod).get(WAITS, 0) >= before + SESSIONS,
        "every session to call again",
        90,
        calm,
    )
    cluster.ok("exec", "client", "--", "touch", "/tmp/calm")
    outcomes = calm.result(90)
    failed = [o for o in outcomes if not o["ok"]]
    assert not failed, f"{len(failed)} of {len(outcomes)} calls of sessions failed: {failed[:3]}"
    assert len({o["client"] for o in outcomes}) == SESSIONS
    cluster.ok("delete", "mcpserver", "busy")
