"""What Prometheus is told: where to scrape, what to record, when to alert. Only where it is known."""

from __future__ import annotations

from typing import Any, Final

from mcpace_operator.children import alerts, service
from mcpace_operator.children.context import Context
from mcpace_sidecar.contract.surface import Path

API: Final = "monitoring.coreos.com/v1"


def service_monitor(context: Context) -> dict[str, Any] | None:
    """The ServiceMonitor of the server's metrics Service."""
    if "ServiceMonitor" not in context.kinds or not context.spec.monitoring.service_monitor:
        return None
    return {
        "apiVersion": API,
        "kind": "ServiceMonitor",
        "metadata": context.metadata(labels=context.settings.monitor_labels),
        "spec": {
            "selector": {"matchLabels": {**context.selector, **service.METRICS}},
            "endpoints": [{"port": "metrics", "path": str(Path.METRICS), "interval": "15s"}],
        },
    }


def prometheus_rule(context: Context) -> dict[str, Any] | None:
    """What is recorded of a server, and its alerts with the manifest's own thresholds."""
    monitoring = context.spec.monitoring
    wanted = monitoring.service_monitor or monitoring.alerts.enabled
    if "PrometheusRule" not in context.kinds or not wanted:
        return None
    return {
        "apiVersion": API,
        "kind": "PrometheusRule",
        "metadata": context.metadata(labels=context.settings.monitor_labels),
        "spec": {"groups": alerts.rules(context)},
    }
