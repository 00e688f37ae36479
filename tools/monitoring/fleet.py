"""Every server at a glance: one recorded series each (`children/alerts.py`), so that a thousand are no load."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row
from tools.monitoring.panels import graph, marked, number, page, rows, variable

IT: Final = '{namespace=~"$namespace"}'
READY: Final = f"mcpace_server_ready{IT}"


def sum_of(what: str) -> str:
    """A recorded rate of all servers together."""
    return f"sum(mcpserver:{what}:rate5m{IT})"


def ratio(part: str, whole: str) -> str:
    """One recorded rate by another; nothing of nothing is none."""
    return f"{sum_of(part)} / ({sum_of(whole)} > 0) or vector(0)"


def by_server(expression: str) -> str:
    """With the server's own name, which the metrics' Service has with `-metrics` behind it."""
    return f'sum by (namespace, server) (label_replace({expression}, "server", "$1", "service", "(.*)-metrics"))'


def most(what: str) -> str:
    """The ten servers with most of it."""
    return f"topk(10, {by_server(what)})"


def rate(what: str) -> str:
    """A recorded rate."""
    return f"mcpserver:{what}:rate5m{IT}"


def build() -> Dashboard:
    """The dashboard."""
    made = page(
        "mcpace-fleet", "mcpace / Fleet", "Every MCP server: health, traffic, what fails, what is saved.",
        variable("namespace", "label_values(mcpace_server_ready, namespace)", label="Namespace", several=True),
    )  # fmt: skip
    made = marked(made, 'ALERTS{alertname=~"McpServer.+",alertstate="firing",namespace=~"$namespace"}')
    return (
        made.with_panel(
            number("Servers", "short", "Servers whose sidecars are scraped.",
                   f"count(sum by (namespace, service) ({READY}))")
        )
        .with_panel(
            number("Servers without a ready replica", "short", "Servers of which no replica has answered.",
                   f"count(sum by (namespace, service) ({READY}) == 0) or vector(0)", bad=1)
        )
        .with_panel(
            number("Alerts", "short", "Alerts of servers that fire.",
                   'count(ALERTS{alertname=~"McpServer.+",alertstate="firing",namespace=~"$namespace"})'
                   " or vector(0)", bad=1)
        )
        .with_panel(number("Calls", "reqps", "Tool calls of all servers.", sum_of("calls")))
        .with_panel(
            number("Failed", "percentunit", "Part of the tool calls that failed: an error of the tool, or"
                   " no answer of the server's.", ratio("failed", "calls"), bad=0.05)
        )
        .with_panel(
            number("Hit ratio", "percentunit", "Part of the cached tools' calls whose result was known.",
                   ratio("hits", "looked_up"))
        )
        .with_panel(number("Saved calls", "reqps", "Calls that no server had to answer.", sum_of("hits"), width=6))
        .with_panel(
            number("Saved bytes", "Bps", "Bytes of answers that no server had to give.",
                   sum_of("saved_bytes"), width=6)
        )
        .with_panel(number("Limited", "reqps", "Calls that a limit refused.", sum_of("limited"), width=6))
        .with_panel(
            number("Turned away", "reqps", "Calls turned away for want of room.", sum_of("shed"), width=6)
        )
        .with_row(Row("Servers"))
        .with_panel(
            rows(
                "Servers", "A row leads to its server.", ("namespace", "server"),
                [
                    ("Ready replicas", "short", by_server(READY)),
                    ("Calls/s", "reqps", by_server(rate("calls"))),
                    ("p95", "s", by_server(f"mcpserver:duration:p95_5m{IT}")),
                    ("Failed", "percentunit", by_server(f"{rate('failed')} / {rate('calls')}")),
                    ("Hit ratio", "percentunit", by_server(f"{rate('hits')} / {rate('looked_up')}")),
                    ("Saved calls/s", "reqps", by_server(rate("hits"))),
                    ("Saved bytes/s", "Bps", by_server(rate("saved_bytes"))),
                    ("Limited/s", "reqps", by_server(rate("limited"))),
                ],
                leads=True,
            )
        )
        .with_row(Row("The ten with most"))
        .with_panel(
            graph("Traffic", "reqps", "Tool calls.", (most(rate("calls")), "{{namespace}}/{{server}}"))
        )
        .with_panel(
            graph("p95", "s", "95 of 100 answered calls take no longer.",
                  (most(f"mcpserver:duration:p95_5m{IT}"), "{{namespace}}/{{server}}"))
        )
        .with_panel(
            graph("Failed calls", "percentunit", "Part of the tool calls.",
                  (most(f"{rate('failed')} / {rate('calls')}"), "{{namespace}}/{{server}}"))
        )
        .with_panel(
            graph("Limited calls", "reqps", "Refused by a limit.",
                  (most(rate("limited")), "{{namespace}}/{{server}}"))
        )
        .with_panel(
            graph("Saved bytes", "Bps", "Bytes of answers that the server did not have to give.",
                  (most(rate("saved_bytes")), "{{namespace}}/{{server}}"))
        )
        .with_panel(
            graph("Answers", "Bps", "Bytes of answers, before compression.",
                  (most(rate("response_bytes")), "{{namespace}}/{{server}}"))
        )
    )  # fmt: skip
