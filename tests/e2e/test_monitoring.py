"""A real Prometheus that scrapes the pods, and the status that tells what it saw."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.cluster import Cluster, until
from tests.kit.prometheus import Prometheus
from tools.cluster.binaries import prometheus_crds

IMAGE = "mcpace/example-weather:0.1.0"


def discovered(cluster: Cluster, monitor: Any) -> dict[str, Any]:
    """The targets that a ServiceMonitor says, as Prometheus Operator would have them."""
    namespace = monitor["metadata"]["namespace"]
    (endpoint,) = monitor["spec"]["endpoints"]
    chosen = [
        {
            "action": "keep",
            "regex": value,
            "source_labels": ["__meta_kubernetes_service_label_" + label(name)],
        }
        for name, value in monitor["spec"]["selector"]["matchLabels"].items()
    ]
    named = {
        "__meta_kubernetes_endpointslice_port_name": "endpoint",
        "__meta_kubernetes_namespace": "namespace",
        "__meta_kubernetes_service_name": "service",
        "__meta_kubernetes_pod_name": "pod",
    }
    relabel = [
        *chosen,
        *({"source_labels": [source], "target_label": target} for source, target in named.items()),
        {"action": "keep", "source_labels": ["endpoint"], "regex": endpoint["port"]},
    ]
    discovery = {
        "role": "endpointslice", "kubeconfig_file": str(cluster.kubeconfig), "namespaces": {"names": [namespace]},
    }  # fmt: skip
    return {
        "job_name": "monitor",
        "metrics_path": endpoint["path"],
        "kubernetes_sd_configs": [discovery],
        "relabel_configs": relabel,
    }


def label(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name)


@pytest.fixture(scope="module")
def crds(cluster: Cluster) -> Iterator[None]:
    """The kinds of Prometheus Operator, come after ours has started."""
    if cluster.foreign:
        pytest.skip("a cluster of somebody else's has a Prometheus of its own, or none")
    files = [f"-f={path}" for path in prometheus_crds()]
    cluster.ok("apply", "--server-side", *files)
    yield
    cluster.ok("delete", *files)


def test_a_real_prometheus_scrapes_every_pod_and_takes_the_rules(
    cluster: Cluster, weather: str, crds: None, tmp_path: Path
):
    cluster.apply("watched", image=IMAGE, replicas=2)
    monitor = until(
        lambda: cluster.get("servicemonitors.monitoring.coreos.com/watched"), "the ServiceMonitor", 60
    )
    rules = until(
        lambda: cluster.get("prometheusrules.monitoring.coreos.com/watched"), "the PrometheusRule"
    )
    cluster.ready("watched")
    prometheus = Prometheus(tmp_path, [discovered(cluster, monitor)], rules["spec"]["groups"])
    try:
        until(
            lambda: prometheus.value('count(up{service="watched-metrics"} == 1)') == 2,
            "both pods to be scraped",
        )
        cluster.ask(urls=cluster.urls("watched"), calls=40, tool="forecast", arguments={"city": "Oslo"})
        until(
            lambda: (
                prometheus.value('sum(mcp_tool_calls_total{service="watched-metrics",tool="forecast"})')
                == 40
            ),
            "forty calls",
        )

        def rules_told() -> list[Any]:
            return [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]

        until(lambda: {rule["health"] for rule in rules_told()} == {"ok"}, "every rule to be evaluated")
        assert {rule["state"] for rule in rules_told() if rule["type"] == "alerting"} == {"inactive"}
        cluster.apply("watched", image=IMAGE, replicas=0)

        def pending() -> bool:
            told = [rule for rule in rules_told() if rule["type"] == "alerting"]
            return {rule["name"] for rule in told if rule["state"] != "inactive"} == {"McpServerDown"}

        until(pending, "the alert that nothing answers", 60)
        cluster.apply("watched", image=IMAGE, replicas=2)
        cluster.ready("watched")
    finally:
        prometheus.stop()


def test_the_status_tells_the_numbers_and_judges_them(cluster: Cluster, crds: None):
    cluster.apply(
        "judged",
        image=IMAGE,
        replicas=1,
        rateLimits={"tiers": [{"name": "free", "requestsPerMinute": 6000}]},
    )
    cluster.ready("judged")
    cluster.ask(urls=cluster.urls("judged"), calls=60, tool="get-weather", arguments={"city": "Oslo"})
    # An operator asks when it starts, and every five minutes: one that starts now asks after the calls.
    cluster.ok("rollout", "restart", "-n", "mcpace-system", "deployment/mcpace")

    def judged() -> Any:
        status = cluster.get("mcpserver/judged")["status"]
        items = {item["name"]: item["result"] for item in status.get("checklist") or []}
        return status if items.get("FrequentCallsCached") == "Failed" else None

    status = until(judged, "the calls to be judged", 60)
    assert status["performance"]["p95"].endswith("ms")
    results = {item["name"]: item for item in status["checklist"]}
    assert len(results) == 10
    assert results["LatencyUnderFiveSeconds"]["result"] == "Passed"
    assert results["LimitsPreventExhaustion"]["result"] == "Passed"
    assert "get-weather" in results["FrequentCallsCached"]["mend"]
    assert results["HealthChecksConfigured"]["result"] == "Passed"
    assert cluster.conditions("judged")["ChecklistPassed"] == ("False", "ItemsFailed")
    columns = cluster.ok("get", "mcps", "judged").splitlines()
    shown = dict(zip(columns[0].split(), columns[1].split(), strict=False))
    assert shown["P95"].endswith("ms")
    for name in ("watched", "judged"):
        cluster.ok("delete", "mcpserver", name)
