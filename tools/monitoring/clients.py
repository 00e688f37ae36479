"""Clients of any servers, and what limits say to them."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row
from tools.monitoring.panels import graph, marked, number, page, variable

OWN: Final = 'namespace=~"$namespace",service=~"($server)-metrics"'
RATE: Final = "[$__rate_interval]"


def rate(metric: str, *, by: str = "", also: str = "") -> str:
    """How fast a counter of the servers grows."""
    grouped = f"sum by ({by})" if by else "sum"
    return f"{grouped} (rate({metric}{{{OWN}{also}}}{RATE}))"


def of(metric: str, by: str = "") -> str:
    """A gauge of the servers."""
    return f"sum{f' by ({by})' if by else ''} ({metric}{{{OWN}}})"


LIMITED: Final = "mcpace_limited_calls_total"


def build() -> Dashboard:
    """The dashboard."""
    made = page(
        "mcpace-clients", "mcpace / Clients and limits", "Who is refused and why, and what clients hold open.",
        variable("namespace", "label_values(mcpace_server_ready, namespace)", label="Namespace", several=True),
        variable("server", 'label_values(mcpace_server_ready{namespace=~"$namespace"}, service)',
                 label="Server", regex="/(.+)-metrics/", several=True),
    )  # fmt: skip
    made = marked(made, 'ALERTS{alertname="McpServerLimitsNotShared",alertstate="firing"}')
    calls = rate("mcp_tool_calls_total")
    limited = rate("mcp_tool_calls_total", also=',status="limited"')
    return (
        made.with_panel(number("Limited calls", "reqps", "Refused by a limit.", limited))
        .with_panel(
            number("Part that is limited", "percentunit", "Of all tool calls.", f"{limited} / {calls}")
        )
        .with_panel(
            number("Unauthorized", "reqps", "Requests refused for their credential.",
                   rate("mcpace_unauthorized_requests_total"))
        )
        .with_panel(number("Connections", "short", "Of clients, open now.", of("mcp_active_connections")))
        .with_panel(number("Streams", "short", "Event streams of clients, open now.", of("mcpace_open_streams")))
        .with_panel(number("Sessions", "short", "That replicas have lately heard of.", of("mcpace_sessions")))
        .with_row(Row("Limits"))
        .with_panel(
            graph("Limited calls by tier", "reqps", "By the tier of the client.",
                  (rate(LIMITED, by="tier"), "{{tier}}"), stacked=True)
        )
        .with_panel(
            graph("Limited calls by limit", "reqps", "By the limit that was reached.",
                  (rate(LIMITED, by="limit"), "{{limit}}"), stacked=True)
        )
        .with_panel(
            graph("Limited calls by server", "reqps", "The ten with most.",
                  (f"topk(10, {rate(LIMITED, by='namespace, service')})", "{{namespace}}/{{service}}"))
        )
        .with_panel(
            graph("Decided without Redis", "reqps", "Decisions while Redis was down, by what `whenRedisIsDown` says.",
                  (rate("mcpace_decided_without_redis_total", by="mode"), "{{mode}}"))
        )
        .with_panel(
            graph("Buckets and quotas", "short", "That replicas hold in their own memory.",
                  (of("mcpace_limit_levels", "namespace, service"), "{{namespace}}/{{service}}"))
        )
        .with_panel(
            graph("Replicas that share limits", "short", "As they count each other.",
                  (f"max by (namespace, service) (mcpace_limit_replicas{{{OWN}}})", "{{namespace}}/{{service}}"))
        )
        .with_row(Row("Refused"))
        .with_panel(
            graph("Bad requests", "reqps", "No acceptable HTTP or MCP, by reason.",
                  (rate("mcpace_bad_requests_total", by="reason"), "{{reason}}"))
        )
        .with_panel(
            graph("Refused for want of room", "reqps", "Connections, bodies, answers, slow readers, streams.",
                  (rate("mcpace_shed_connections_total", by="reason"), "{{reason}}"))
        )
        .with_panel(
            graph("Unauthorized requests", "reqps", "By server: a key that is none, a token that is wrong or old.",
                  (rate("mcpace_unauthorized_requests_total", by="namespace, service"), "{{namespace}}/{{service}}"))
        )
        .with_row(Row("Connections"))
        .with_panel(
            graph("Connections", "short", "Of clients, by server.",
                  (of("mcp_active_connections", "namespace, service"), "{{namespace}}/{{service}}"))
        )
        .with_panel(
            graph("Streams", "short", "Open ones, and those whose client's connection is broken.",
                  (of("mcpace_open_streams"), "open"), (of("mcpace_streams_away"), "client away"))
        )
        .with_panel(
            graph("Held for clients", "bytes", "Bodies, answers gathered or not read yet, replays.",
                  (of("mcpace_held_bytes", "what"), "{{what}}"), stacked=True)
        )
        .with_panel(
            graph("Streams that clients came back to", "reqps", "goes_on, replayed, ended, lost.",
                  (rate("mcpace_streams_resumed_total", by="result"), "{{result}}"))
        )
    )  # fmt: skip
