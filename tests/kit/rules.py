"""The rules that a Prometheus is given: a server's by the operator, a release's by the chart."""

from __future__ import annotations

import subprocess
from typing import Any

import yaml
from tests.kit.helm import CHART
from tests.kit.mcpserver import context
from tools.cluster.binaries import program

from mcpace_operator.children import children


def of_a_server(**spec: Any) -> list[dict[str, Any]]:
    """The groups of ns/weather, whose metrics' Service is weather-metrics."""
    made = children(context(kinds=["PrometheusRule"], **spec))
    (rule,) = [child for child in made if child["kind"] == "PrometheusRule"]
    return list(rule["spec"]["groups"])


def of_a_release() -> list[dict[str, Any]]:
    """The groups of the release mcpace in the namespace sys, as Helm renders them."""
    done = subprocess.run(
        [
            str(program("helm")), "template", "mcpace", CHART, "-n", "sys", "--set=metrics.alerts.enabled=true",
            "--set=metrics.grafanaUrl=https://grafana.example/", "--set=metrics.runbooksUrl=https://books.example",
            "--api-versions=monitoring.coreos.com/v1", "--show-only=templates/monitoring/prometheusrule.yaml",
        ],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load(done.stdout)["spec"]["groups"])
