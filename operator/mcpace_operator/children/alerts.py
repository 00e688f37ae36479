"""What is recorded and told of one server: rows, with its own thresholds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from mcpace_operator.children import alerting, service
from mcpace_operator.children.alerting import Alert, Budget
from mcpace_operator.children.context import Context
from mcpace_operator.resource.monitoring import part
from mcpace_sidecar.contract.histogram import BOUNDS
from mcpace_sidecar.contract.quantity import seconds

DASHBOARD: Final = "mcpace-server"
"""Its uid; the variables are `namespace` and `server`."""
SLOW: Final = 0.05
"""The part of calls that may take longer than `alerts.p95`: that is what a 95th percentile says."""
SHED: Final = 0.01
"""The part of calls that may be turned away for want of room."""

_CALLS: Final = "mcp_tool_calls_total"
_COUNT: Final = "mcp_tool_duration_seconds_count"
_BUCKET: Final = "mcp_tool_duration_seconds_bucket"
_CACHE: Final = "mcpace_cache_requests_total"


def rules(context: Context) -> list[dict[str, Any]]:
    """The groups of a server's rules."""
    key, links = context.server.key, context.settings.links
    dashboard = links.dashboard(DASHBOARD, namespace=key.namespace, server=key.name)
    labels = {"namespace": key.namespace, "mcpserver": key.name}
    told = [
        alerting.alerting(
            each._replace(summary=f"MCP server {key}: {each.summary}"), links, dashboard, labels
        )
        for each in (_alerts(context) if context.spec.monitoring.alerts.enabled else ())
    ]
    kept = [alerting.recording(name, expression) for name, expression in _records(context)]
    return alerting.groups(f"mcpace.{key}", kept, told)


def own(context: Context, *more: str) -> str:
    """What selects the series of this server."""
    of_it = f'namespace="{context.server.key.namespace}"', f'service="{service.metrics_name(context)}"'
    return "{" + ",".join((*of_it, *more)) + "}"


def _records(context: Context) -> Iterator[tuple[str, str]]:
    """One series each, of however many tools and replicas, for dashboards and alerts."""

    def rate(metric: str, *more: str) -> str:
        return f"sum by (namespace, service) (rate({metric}{own(context, *more)}[{alerting.RATE}]))"

    def also_none(some: str, every: str) -> str:
        return f"{some} or {every} * 0"  # a status that never was has no series

    calls, looked_up, answered = rate(_CALLS), rate(_CACHE), rate(_COUNT)
    longest = seconds(context.spec.monitoring.alerts.p95)
    bound = next((str(each) for each in BOUNDS if each >= longest), "+Inf")
    in_time = rate(_BUCKET, f'le="{bound}"')
    yield "mcpserver:calls:rate5m", calls
    yield "mcpserver:failed:rate5m", also_none(rate(_CALLS, 'status=~"error|failed"'), calls)
    yield "mcpserver:shed:rate5m", also_none(rate(_CALLS, 'status="shed"'), calls)
    yield "mcpserver:limited:rate5m", also_none(rate(_CALLS, 'status="limited"'), calls)
    yield "mcpserver:answered:rate5m", answered
    yield "mcpserver:slow:rate5m", f"clamp_min({answered} - {in_time}, 0)"
    yield (
        "mcpserver:duration:p95_5m",
        f"histogram_quantile(0.95, sum by (namespace, service, le) (rate({_BUCKET}{own(context)}[5m])))",
    )
    yield "mcpserver:looked_up:rate5m", looked_up
    yield "mcpserver:hits:rate5m", also_none(rate(_CACHE, 'result!="miss"'), looked_up)
    yield "mcpserver:saved_bytes:rate5m", rate("mcpace_cache_saved_bytes_total")
    yield "mcpserver:response_bytes:rate5m", rate("mcpace_response_bytes_total")


def _alerts(context: Context) -> Iterator[Alert]:
    alerts, spec, it = context.spec.monitoring.alerts, context.spec, own(context)
    calls = f"mcpserver:calls:rate5m{it}"
    budgets = (
        Budget(
            "McpServerErrors", f"mcpserver:failed:rate5m{it}", calls, part(alerts.error_rate), "critical",
            f"of its tool calls failed, and {alerts.error_rate} may:",
            "See which tool fails (mcp_tool_calls_total) and why (mcpace_upstream_errors_total, the logs).",
        ),
        Budget(
            "McpServerSlow",
            f"mcpserver:slow:rate5m{it}", f"mcpserver:answered:rate5m{it}", SLOW, "warning",
            f"of its tool calls took longer than {alerts.p95}, and 5% may:",
            "See which tool it is (mcp_tool_duration_seconds); cache it (cache.tools) or add replicas.",
        ),
        Budget(
            "McpServerOverloaded", f"mcpserver:shed:rate5m{it}", calls, SHED, "warning",
            "of its tool calls were turned away because it is full, and 1% may:",
            "Raise replicas, autoscaling.maxReplicas or concurrency.maxInFlight.",
        ),
    )  # fmt: skip
    for budget in budgets:
        yield from budget.alerts()
    yield Alert(
        "McpServerDown",
        f"sum(mcpace_server_ready{it}) == 0 or absent(mcpace_server_ready{it})",
        "5m", "critical",
        "No replica has answered the MCP handshake.",
        f"kubectl describe mcpserver {context.name} -n {context.server.key.namespace} says why.",
    )  # fmt: skip
    yield Alert(
        "McpServerCircuitOpen",
        f"max by (tool) (mcpace_circuit_open{it}) == 1",
        "5m", "warning",
        "A circuit breaker{{ with $labels.tool }} of {{ . }}{{ end }} is open: calls are turned away.",
        "See what the server answers (mcpace_upstream_errors_total, its logs).",
    )  # fmt: skip
    yield Alert(
        "McpServerMemoryNearLimit",
        f"max(mcpace_server_memory_bytes{it} / mcpace_server_memory_limit_bytes{it}) > 0.9",
        "15m", "warning",
        "A replica has {{ $value | humanizePercentage }} of its memory limit in use.",
        "Raise resources.limits.memory, or find what the server keeps.",
    )  # fmt: skip
    yield Alert(
        "McpServerSecretMissing",
        f"max(mcpace_missing_secrets{it}) > 0",
        "5m", "warning",
        "{{ $value }} Secrets with API keys are not mounted: their clients are refused.",
        "Make the Secrets that clients.apiKeys names.",
    )  # fmt: skip
    yield Alert(
        "McpServerInternalErrors",
        alerting.appeared(f"mcpace_internal_errors_total{it}", "15m"),
        "0m", "warning",
        "The sidecar met something that nobody expected; each is a defect.",
        "Report what the sidecar's log says of it (Internal error).",
    )  # fmt: skip
    if spec.rate_limits is not None and context.credentials.limits_url is not None:
        store = own(context, 'store="limits"')
        yield Alert(
            "McpServerLimitsNotShared",
            f"min(mcpace_redis_up{store}) == 0",
            "5m", "warning",
            "A replica does not reach Redis, so its limits are as rateLimits.whenRedisIsDown says.",
            "See that Redis runs and that the pods reach it.",
        )  # fmt: skip
