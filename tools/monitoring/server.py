"""One server: its tools, and everything that a call passes."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row
from tools.monitoring.panels import graph, heat, marked, number, page, rows, variable

OWN: Final = 'namespace="$namespace",service="${server}-metrics"'
PODS: Final = 'namespace="$namespace",pod=~"${server}-[a-z0-9]+-[a-z0-9]{5}"'
AUTOSCALER: Final = '{namespace="$namespace",horizontalpodautoscaler="$server"}'
RATE: Final = "[$__rate_interval]"


def it(metric: str, *more: str) -> str:
    """A metric of this server."""
    return f"{metric}{{{','.join((OWN, *more))}}}"


def rate(metric: str, *more: str, by: str = "") -> str:
    """How fast a counter of it grows, over all replicas."""
    grouped = f"sum by ({by})" if by else "sum"
    return f"{grouped} (rate({it(metric, *more)}{RATE}))"


def quantile(part: float, by: str = "") -> str:
    """The duration that a part of its answered calls did not exceed."""
    return f"histogram_quantile({part:g}, {rate('mcp_tool_duration_seconds_bucket', by=f'le, {by}' if by else 'le')})"


CALLS: Final = "mcp_tool_calls_total"
CACHE: Final = "mcpace_cache_requests_total"
FAILED: Final = 'status=~"error|failed"'
HIT: Final = 'result!="miss"'


def build() -> Dashboard:
    """The dashboard."""
    made = page(
        "mcpace-server", "mcpace / Server", "One MCP server: tools, cache, limits, room, memory.",
        variable("namespace", "label_values(mcpace_server_ready, namespace)", label="Namespace"),
        variable("server", 'label_values(mcpace_server_ready{namespace="$namespace"}, service)',
                 label="Server", regex="/(.+)-metrics/"),
    )  # fmt: skip
    made = marked(made, 'ALERTS{alertstate="firing",namespace="$namespace",mcpserver="$server"}')
    for part in (_overview, _tools, _cache, _limits, _room, _connections, _processes, _resources):
        made = part(made)
    return made


def _overview(made: Dashboard) -> Dashboard:
    return (
        made.with_panel(
            number("Ready replicas", "short", "Replicas whose server has answered the MCP handshake.",
                   f"sum({it('mcpace_server_ready')})", good=1)
        )
        .with_panel(number("Calls", "reqps", "Tool calls.", rate(CALLS)))
        .with_panel(number("p95", "s", "95 of 100 answered calls take no longer.", quantile(0.95)))
        .with_panel(
            number("Failed", "percentunit", "Part of the tool calls that failed: an error of the tool, or no"
                   " answer of the server's.", f"({rate(CALLS, FAILED)} or vector(0)) / {rate(CALLS)}", bad=0.05)
        )
        .with_panel(
            number("Hit ratio", "percentunit", "Part of the cached tools' calls whose result was known.",
                   f"{rate(CACHE, HIT)} / {rate(CACHE)}")
        )
        .with_panel(
            number("In flight", "short", "Requests being answered now.", f"sum({it('mcpace_calls_in_flight')})")
        )
    )  # fmt: skip


def _tools(made: Dashboard) -> Dashboard:
    tokens = "mcpace_response_tokens_total"
    return (
        made.with_row(Row("Tools"))
        .with_panel(
            rows(
                "Tools", "What each tool is like now. Tokens are estimated: bytes / 4, refusals are answers too.", ("tool",),
                [
                    ("Calls/s", "reqps", rate(CALLS, by="tool")),
                    ("p50", "s", quantile(0.5, "tool")),
                    ("p95", "s", quantile(0.95, "tool")),
                    ("p99", "s", quantile(0.99, "tool")),
                    ("Failed/s", "reqps", rate(CALLS, FAILED, by="tool")),
                    ("Hit ratio", "percentunit", f"{rate(CACHE, HIT, by='tool')} / {rate(CACHE, by='tool')}"),
                    ("Limited/s", "reqps", rate(CALLS, 'status="limited"', by="tool")),
                    ("In flight", "short", f"sum by (tool) ({it('mcp_tool_calls_in_flight')})"),
                    ("Bytes/s", "Bps", rate("mcpace_response_bytes_total", by="tool")),
                    ("Tokens per answer", "short", f"{rate(tokens, by='tool')} / {rate(CALLS, by='tool')}"),
                ],
            )
        )
        .with_panel(graph("Calls", "reqps", "Tool calls by tool.", (rate(CALLS, by="tool"), "{{tool}}")))
        .with_panel(
            graph("How calls end", "reqps", "success; error: the tool or JSON-RPC said so; limited; shed: no"
                  " room; failed: no answer of the server's; cancelled.",
                  (rate(CALLS, by="status"), "{{status}}"), stacked=True)
        )
        .with_panel(
            heat("Latency", "How many answered calls took how long.",
                 rate("mcp_tool_duration_seconds_bucket", by="le"))
        )
        .with_panel(
            graph("Percentiles", "s", "Of all answered calls.",
                  *((quantile(part), f"p{part * 100:g}") for part in (0.5, 0.95, 0.99)))
        )
        .with_panel(graph("p95 by tool", "s", "Of answered calls.", (quantile(0.95, "tool"), "{{tool}}")))
        .with_panel(
            graph("Failed calls by tool", "reqps", "An error of the tool, or no answer of the server's.",
                  (rate(CALLS, FAILED, by="tool"), "{{tool}}"))
        )
        .with_panel(
            graph("Tokens of answers", "short", "Tokens per second that clients' models are given to read,"
                  " estimated: bytes / 4.", (rate(tokens, by="tool"), "{{tool}}"), stacked=True)
        )
        .with_panel(
            graph("Bytes", "Bps", "Of calls and of their answers, before compression.",
                  (rate("mcpace_request_bytes_total"), "calls"), (rate("mcpace_response_bytes_total"), "answers"))
        )
    )  # fmt: skip


def _cache(made: Dashboard) -> Dashboard:
    return (
        made.with_row(Row("Cache"))
        .with_panel(
            graph("Hit ratio by tool", "percentunit", "Part of the calls whose result was known.",
                  (f"{rate(CACHE, HIT, by='tool')} / {rate(CACHE, by='tool')}", "{{tool}}"))
        )
        .with_panel(
            graph("Where results were", "reqps", "memory, redis; joined: an identical call in flight had it;"
                  " stale: an older one was given; miss.", (rate(CACHE, by="result"), "{{result}}"), stacked=True)
        )
        .with_panel(
            graph("Saved bytes", "Bps", "Bytes of answers that the server did not have to give.",
                  (rate("mcpace_cache_saved_bytes_total", by="tool"), "{{tool}}"), stacked=True)
        )
        .with_panel(
            graph("Memory of the cache", "bytes", "By replica.",
                  (f"sum by (pod) ({it('mcpace_cache_bytes')})", "{{pod}}"))
        )
        .with_panel(
            graph("Entries", "short", "Results in memory, by replica.",
                  (f"sum by (pod) ({it('mcpace_cache_entries')})", "{{pod}}"))
        )
        .with_panel(
            graph("Not looked up", "reqps", "Calls of cached tools: anonymous, writes, a session's first call.",
                  (rate("mcpace_cache_bypassed_total", by="tool, reason"), "{{tool}}: {{reason}}"))
        )
    )  # fmt: skip


def _limits(made: Dashboard) -> Dashboard:
    return (
        made.with_row(Row("Limits"))
        .with_panel(
            graph("Limited calls by tier", "reqps", "Calls refused, by the tier of their client and the limit.",
                  (rate("mcpace_limited_calls_total", by="tier, limit"), "{{tier}}: {{limit}}"))
        )
        .with_panel(
            graph("Limited calls by tool", "reqps", "Calls refused by a limit.",
                  (rate(CALLS, 'status="limited"', by="tool"), "{{tool}}"))
        )
        .with_panel(
            graph("Replicas that share limits", "short", "As each replica counts them.",
                  (f"max by (pod) ({it('mcpace_limit_replicas')})", "{{pod}}"))
        )
        .with_panel(
            graph("Stores", "short", "Replicas that reach them: limits, cache.",
                  (f"sum by (store) ({it('mcpace_redis_up')})", "{{store}}"))
        )
    )  # fmt: skip


def _room(made: Dashboard) -> Dashboard:
    return (
        made.with_row(Row("Pool, slots and breakers"))
        .with_panel(
            graph("Connections to the server", "short", "busy, idle, and streams that stay open.",
                  (f"sum by (state) ({it('mcpace_upstream_connections')})", "{{state}}"), stacked=True)
        )
        .with_panel(
            graph("Waiting", "short", "For a connection, and for a slot of `concurrency`.",
                  (f"sum({it('mcpace_upstream_waiting')})", "for a connection"),
                  (f"sum({it('mcpace_calls_queued')})", "for a slot"))
        )
        .with_panel(
            graph("Slots", "short", "Slots of `concurrency` that calls hold, and replicas that are full.",
                  (f"sum({it('mcpace_slots_taken')})", "slots taken"),
                  (f"sum({it('mcpace_full')})", "full replicas"))
        )
        .with_panel(
            graph("Calls in flight by tool", "short", "Tool calls being answered now.",
                  (f"sum by (tool) ({it('mcp_tool_calls_in_flight')})", "{{tool}}"), stacked=True)
        )
        .with_panel(
            graph("Turned away", "reqps", "Calls for which there was no room: queue, overdue, breaker.",
                  (rate("mcpace_shed_calls_total", by="reason"), "{{reason}}"))
        )
        .with_panel(
            graph("Open breakers", "short", "Replicas whose circuit breaker of a tool is open; the server's own"
                  " has no tool.", (f"sum by (tool) ({it('mcpace_circuit_open')})", "{{tool}}"))
        )
        .with_panel(
            graph("Errors of the server's", "reqps", "Answers that it did not give, by reason.",
                  (rate("mcpace_upstream_errors_total", by="reason"), "{{reason}}"))
        )
        .with_panel(
            graph("Doors to the outside", "reqps", "The server's own calls through `egress`, by how they ended.",
                  (rate("mcpace_egress_requests_total", by="door, result"), "{{door}}: {{result}}"))
        )
        .with_panel(
            graph("Waiting at doors", "short", "Calls that wait behind a door, on average.",
                  (rate("mcpace_egress_wait_seconds_total", by="door"), "{{door}}"))
        )
        .with_panel(
            graph("Connections of doors", "short", "Kept open to the outside.",
                  (f"sum by (door) ({it('mcpace_egress_connections')})", "{{door}}"))
        )
    )  # fmt: skip


def _connections(made: Dashboard) -> Dashboard:
    events = ("calls_lost", "calls that were lost"), ("relayed_calls", "passed on to another replica")
    return (
        made.with_row(Row("Clients' connections and sessions"))
        .with_panel(
            graph("Connections", "short", "Of clients, and their event streams.",
                  (f"sum({it('mcp_active_connections')})", "connections"),
                  (f"sum({it('mcpace_open_streams')})", "streams"),
                  (f"sum({it('mcpace_streams_away')})", "streams whose client is away"))
        )
        .with_panel(
            graph("Sessions", "short", "That each replica has lately heard of.",
                  (f"sum by (pod) ({it('mcpace_sessions')})", "{{pod}}"))
        )
        .with_panel(
            graph("Refused", "reqps", "For their credential; and what was no acceptable HTTP or MCP, by reason.",
                  (rate("mcpace_unauthorized_requests_total"), "unauthorized"),
                  (rate("mcpace_bad_requests_total", by="reason"), "{{reason}}"))
        )
        .with_panel(
            graph("Calls between replicas", "reqps", "Of sessions that another replica holds, and those that"
                  " ended with their server.",
                  *((rate(f"mcpace_{name}_total"), legend) for name, legend in events))
        )
    )  # fmt: skip


def _processes(made: Dashboard) -> Dashboard:
    return (
        made.with_row(Row("Processes (transport: stdio)"))
        .with_panel(
            graph("Processes", "short", "starting, running, ending.",
                  (f"sum by (state) ({it('mcpace_stdio_processes')})", "{{state}}"), stacked=True)
        )
        .with_panel(
            graph("Starts and ends", "reqps", "Started; failed to start; crashed after they had answered.",
                  (rate("mcpace_stdio_starts_total"), "started"),
                  (rate("mcpace_stdio_failed_starts_total"), "failed to start"),
                  (rate("mcpace_stdio_crashes_total"), "crashed"))
        )
    )  # fmt: skip


def _resources(made: Dashboard) -> Dashboard:
    restarts = (
        f"sum by (pod, container) (increase(kube_pod_container_status_restarts_total{{{PODS}}}{RATE}))"
    )
    status = "kube_horizontalpodautoscaler_status_"
    bounds = "kube_horizontalpodautoscaler_spec_"
    return (
        made.with_row(Row("Memory, CPU and Kubernetes"))
        .with_panel(
            graph("Memory of the server", "bytes", "Of its container or process, and the container's limit.",
                  (f"sum by (pod) ({it('mcpace_server_memory_bytes')})", "{{pod}}"),
                  (f"max({it('mcpace_server_memory_limit_bytes')})", "limit"))
        )
        .with_panel(
            graph("Memory of the sidecar", "bytes", "Of its process, and what is held of bodies and answers.",
                  (f"sum by (pod) ({it('process_resident_memory_bytes')})", "{{pod}}"),
                  (f"sum by (what) ({it('mcpace_held_bytes')})", "held: {{what}}"))
        )
        .with_panel(
            graph("CPU", "short", "Processors in use.",
                  (rate("mcpace_server_cpu_seconds_total"), "server"),
                  (rate("process_cpu_seconds_total"), "sidecar"))
        )
        .with_panel(
            graph("Lag of the sidecar", "s", "How late its own half-second timer came, at worst lately.",
                  (f"max by (pod) ({it('mcpace_event_loop_lag_seconds')})", "{{pod}}"))
        )
        .with_panel(
            graph("Restarts", "short", "Of containers; from kube-state-metrics.", (restarts, "{{pod}}/{{container}}"))
        )
        .with_panel(
            graph("Replicas of the autoscaler", "short", "From kube-state-metrics.",
                  (f"max({status}current_replicas{AUTOSCALER})", "current"),
                  (f"max({status}desired_replicas{AUTOSCALER})", "desired"),
                  (f"max({bounds}min_replicas{AUTOSCALER})", "least"),
                  (f"max({bounds}max_replicas{AUTOSCALER})", "most"))
        )
    )  # fmt: skip
