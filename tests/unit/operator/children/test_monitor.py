"""What Prometheus is told."""

import re
from dataclasses import replace

import pytest
from tests.kit.mcpserver import SETTINGS, context

from mcpace_operator.children import children
from mcpace_sidecar.telemetry.metrics import COUNTED_ELSEWHERE, COUNTERS, GAUGES

BOTH = ("ServiceMonitor", "PrometheusRule")


def made(kinds=BOTH, settings=SETTINGS, **spec):
    found = children(context(kinds=kinds, settings=settings, **spec))
    return {child["kind"]: child for child in found if child["kind"] in BOTH}


def rules(**spec):
    (group,) = made(**spec)["PrometheusRule"]["spec"]["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


def test_only_kinds_that_the_cluster_knows_are_made():
    assert set(made()) == set(BOTH)
    assert set(made(kinds=["ServiceMonitor"])) == {"ServiceMonitor"}
    assert made(kinds=[]) == {}


def test_a_manifest_may_want_neither():
    assert made(monitoring={"serviceMonitor": False, "alerts": {"enabled": False}}) == {}


def test_the_monitor_selects_the_headless_service_and_no_other():
    selected = made()["ServiceMonitor"]["spec"]["selector"]["matchLabels"]
    services = [child for child in children(context()) if child["kind"] == "Service"]
    found = [s for s in services if selected.items() <= s["metadata"]["labels"].items()]
    assert [s["metadata"]["name"] for s in found] == ["weather-metrics"]
    assert found[0]["spec"]["clusterIP"] == "None"


def test_prometheus_finds_both_by_the_charts_labels():
    found = made(settings=replace(SETTINGS, monitor_labels={"release": "prometheus"}))
    for child in found.values():
        assert child["metadata"]["labels"]["release"] == "prometheus"
        assert child["metadata"]["labels"]["mcpace.dev/server"] == "weather"


def test_thresholds_are_the_manifests():
    changed = rules(monitoring={"alerts": {"p95": "500ms", "errorRate": "0.5%"}})
    assert changed["McpServerSlow"]["expr"].endswith("> 0.5")
    assert changed["McpServerErrors"]["expr"].endswith("> 0.005")
    assert rules()["McpServerSlow"]["expr"].endswith("> 5")
    assert "McpServerLimitsNotShared" not in rules()
    assert "McpServerLimitsNotShared" in rules(rateLimits={})


@pytest.mark.parametrize("alert", rules(rateLimits={}))
def test_an_alert_reads_metrics_that_exist_says_what_to_do_and_looks_at_its_own_server(alert):
    rule = rules(rateLimits={})[alert]
    known = {f"{name}_total" for name in (*COUNTERS, *COUNTED_ELSEWHERE)} | set(GAUGES)
    known.add("mcp_tool_duration_seconds_bucket")
    read = set(re.findall(r"\bmcp\w+(?=\{)", rule["expr"]))
    assert read
    assert read <= known
    assert len(re.findall(r'namespace="ns",service="weather-metrics"', rule["expr"])) >= len(read)
    assert "ns/weather" in rule["annotations"]["summary"]
    assert rule["annotations"]["description"].endswith(".")
