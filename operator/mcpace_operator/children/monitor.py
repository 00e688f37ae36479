"""What Prometheus is told: where to scrape, and when to alert. Only where its operator's kinds exist."""

from __future__ import annotations

from typing import Any, Final

from mcpace_operator.children import service
from mcpace_operator.children.context import Context
from mcpace_operator.resource.monitoring import part
from mcpace_sidecar.contract.quantity import seconds
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
    """The alerts of a server, with the manifest's own thresholds."""
    if "PrometheusRule" not in context.kinds or not context.spec.monitoring.alerts.enabled:
        return None
    rules = [
        _rule(name, expression, lasting, severity, context, summary, what_to_do)
        for name, expression, lasting, severity, summary, what_to_do in _alerts(context)
    ]
    return {
        "apiVersion": API,
        "kind": "PrometheusRule",
        "metadata": context.metadata(labels=context.settings.monitor_labels),
        "spec": {"groups": [{"name": f"mcpace.{context.server.key}", "rules": rules}]},
    }


def _alerts(context: Context) -> list[tuple[str, str, str, str, str, str]]:
    alerts, spec = context.spec.monitoring.alerts, context.spec
    own = f'namespace="{context.server.key.namespace}",service="{service.metrics_name(context)}"'
    limit, errors = seconds(alerts.p95), part(alerts.error_rate)
    calls = f"sum(rate(mcp_tool_calls_total{{{own}}}[5m]))"
    failed = f'sum(rate(mcp_tool_calls_total{{{own},status=~"error|failed"}}[5m]))'
    durations = f"sum by (le) (rate(mcp_tool_duration_seconds_bucket{{{own}}}[5m]))"
    chosen = [
        (
            "McpServerSlow",
            f"histogram_quantile(0.95, {durations}) > {limit:g}",
            "5m", "warning",
            f"95 % of its calls take up to {{{{ $value | humanizeDuration }}}}, more than {alerts.p95}.",
            "See which tool it is (mcp_tool_duration_seconds); cache it (cache.tools) or add replicas.",
        ),
        (
            "McpServerErrors",
            f"{failed} / {calls} > {errors:g}",
            "5m", "warning",
            f"{{{{ $value | humanizePercentage }}}} of its tool calls fail, more than {alerts.error_rate}.",
            "See which tool fails (mcp_tool_calls_total) and why (mcpace_upstream_errors_total, the logs).",
        ),
        (
            "McpServerDown",
            f"sum(mcpace_server_ready{{{own}}}) == 0 or absent(mcpace_server_ready{{{own}}})",
            "5m", "critical",
            "No replica has answered the MCP handshake.",
            f"kubectl describe mcpserver {context.name} says why.",
        ),
        (
            "McpServerOverloaded",
            f"sum(rate(mcpace_shed_calls_total{{{own}}}[5m])) > 0",
            "5m", "warning",
            "Calls are turned away because the server is full.",
            "Raise replicas, autoscaling.maxReplicas or concurrency.maxInFlight.",
        ),
    ]  # fmt: skip
    if spec.rate_limits is not None and context.credentials.limits_url is not None:
        chosen.append(
            (
                "McpServerLimitsNotShared",
                f'min(mcpace_redis_up{{{own},store="limits"}}) == 0',
                "5m", "warning",
                "A replica does not reach Redis, so its limits are as rateLimits.whenRedisIsDown says.",
                "See that Redis runs and that the pods reach it.",
            )
        )  # fmt: skip
    return chosen


def _rule(
    name: str, expression: str, lasting: str, severity: str, context: Context, summary: str, todo: str
) -> dict[str, Any]:
    return {
        "alert": name,
        "expr": expression,
        "for": lasting,
        "labels": {"severity": severity, "mcpserver": context.name},
        "annotations": {"summary": f"MCP server {context.server.key}: {summary}", "description": todo},
    }
