"""What Prometheus is told."""

import re
from dataclasses import replace

import pytest
from tests.kit.mcpserver import SETTINGS, context

from mcpace_operator.children import children
from mcpace_operator.resource.monitoring import Links
from mcpace_sidecar.telemetry.metrics import COUNTED_ELSEWHERE, COUNTERS, GAUGES

BOTH = ("ServiceMonitor", "PrometheusRule")


def made(kinds=BOTH, settings=SETTINGS, **spec):
    found = children(context(kinds=kinds, settings=settings, **spec))
    return {child["kind"]: child for child in found if child["kind"] in BOTH}


def rules(**spec):
    """All of them: name -> rules, of which an alert has one for each speed."""
    found = {}
    for group in made(**spec)["PrometheusRule"]["spec"]["groups"]:
        for rule in group["rules"]:
            found.setdefault(rule.get("alert") or rule["record"], []).append(rule)
    return found


def alerts(**spec):
    return {name: each for name, each in rules(**spec).items() if "alert" in each[0]}


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


def test_without_alerts_what_dashboards_read_is_recorded_all_the_same():
    assert alerts()
    assert not alerts(monitoring={"alerts": {"enabled": False}})
    assert "mcpserver:calls:rate5m" in rules(monitoring={"alerts": {"enabled": False}})


def test_a_budget_is_the_manifests_and_burns_at_four_speeds():
    changed = alerts(monitoring={"alerts": {"errorRate": "0.5%"}})["McpServerErrors"]
    parts = [re.findall(r"> (\S+)", rule["expr"]) for rule in changed]
    assert parts == [["0.072"] * 2, ["0.03"] * 2, ["0.015"] * 2, ["0.005"] * 2]
    assert [rule["labels"]["severity"] for rule in changed] == [
        "critical",
        "critical",
        "warning",
        "warning",
    ]
    usual = [re.findall(r"> (\S+)", rule["expr"])[0] for rule in alerts()["McpServerErrors"]]
    assert usual == ["0.72", "0.3", "0.15", "0.05"]


@pytest.mark.parametrize(
    ("p95", "bound"), [("5s", "5.0"), ("500ms", "0.5"), ("2s", "2.5"), ("300ms", "0.5"), ("1h", "+Inf")]
)
def test_a_slow_call_is_one_beyond_the_bucket_that_holds_p95(p95, bound):
    (rule,) = rules(monitoring={"alerts": {"p95": p95}})["mcpserver:slow:rate5m"]
    assert re.findall(r'le="([^"]+)"', rule["expr"]) == [bound]


def test_limits_that_nobody_shares_are_told_only_where_they_should_be():
    assert "McpServerLimitsNotShared" not in alerts()
    assert "McpServerLimitsNotShared" in alerts(rateLimits={})


def test_an_alert_leads_to_the_readers_own_grafana_and_runbooks():
    links = Links("https://wiki.example/runbooks/", "https://grafana.example/")
    spec = made(settings=replace(SETTINGS, links=links))["PrometheusRule"]["spec"]
    told = [rule["annotations"] for group in spec["groups"] for rule in group["rules"] if "alert" in rule]
    server = "https://grafana.example/d/mcpace-server?var-namespace=ns&var-server=weather"
    assert {words["dashboard_url"] for words in told} == {server}
    assert "https://wiki.example/runbooks/McpServerDown.md" in {words["runbook_url"] for words in told}


@pytest.mark.parametrize("name", rules(rateLimits={}))
def test_a_rule_reads_metrics_that_exist_and_looks_at_its_own_server(name):
    every = rules(rateLimits={})
    known = {f"{metric}_total" for metric in (*COUNTERS, *COUNTED_ELSEWHERE)} | set(GAUGES)
    known |= {f"mcp_tool_duration_seconds_{part}" for part in ("bucket", "count")} | set(every)
    for rule in every[name]:
        read = re.findall(r"\bmcp[\w:]+(?=\{)", rule["expr"])
        assert read
        assert set(read) <= known
        assert len(re.findall(r'namespace="ns",service="weather-metrics"', rule["expr"])) == len(read)
        if "alert" in rule:
            assert "ns/weather" in rule["annotations"]["summary"]
            assert rule["annotations"]["description"].endswith(".")
            assert rule["labels"]["namespace"] == "ns"
            assert rule["labels"]["mcpserver"] == "weather"
