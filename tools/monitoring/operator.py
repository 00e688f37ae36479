"""The operator, and Redis as sidecars and an exporter see it."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row
from tools.monitoring.panels import graph, marked, number, page, variable

IT: Final = '{namespace="$namespace"}'
RATE: Final = "[$__rate_interval]"
ITSELF: Final = f" * on (namespace, pod) group_left () (mcpace_operator_leading{IT} >= bool 0)"
"""Of the operator's pods alone: every process has metrics of the same name."""


def rate(metric: str, by: str = "") -> str:
    """How fast a counter of the operator's grows."""
    return f"sum{f' by ({by})' if by else ''} (rate({metric}{IT}{RATE}))"


def stores(metric: str) -> str:
    """What sidecars of all servers count of the stores."""
    return f"sum by (store) (rate({metric}{RATE}))"


def exported(expression: str, legend: str = "{{instance}}") -> tuple[str, str]:
    """A query of what Redis' exporter says in the release's namespace."""
    return expression, legend


def build() -> Dashboard:
    """The dashboard."""
    made = page(
        "mcpace-operator", "mcpace / Operator and Redis", "Whether servers are looked after, and the stores.",
        variable("namespace", "label_values(mcpace_operator_leading, namespace)", label="Namespace of the release"),
    )  # fmt: skip
    made = marked(made, 'ALERTS{alertname=~"Mcpace.+",alertstate="firing"}')
    return _redis(_operator(made))


def _operator(made: Dashboard) -> Dashboard:
    looks = "mcpace_operator_reconcile_seconds_bucket"
    return (
        made.with_panel(
            number("Leading", "short", "Operators that work: one.", f"sum(mcpace_operator_leading{IT})", good=1)
        )
        .with_panel(number("Servers", "short", "Servers that are known.", f"max(mcpace_operator_servers{IT})"))
        .with_panel(
            number("Queue", "short", "Servers that wait to be looked at.", f"sum(mcpace_operator_queue{IT})")
        )
        .with_panel(
            number("Failed looks", "percentunit", "Part of the looks at servers that failed.",
                   f"sum(mcpace_operator:failed:rate5m{IT})"
                   f" / (sum(mcpace_operator:reconciles:rate5m{IT}) > 0) or vector(0)", bad=0.05)
        )
        .with_panel(
            number("Namespaces unread", "short", "Of watchNamespaces, those that the operator may not read.",
                   f"max(mcpace_operator_unread_namespaces{IT})", bad=1)
        )
        .with_panel(
            number("Watching began anew", "short", "Times in the shown time.",
                   f"sum(increase(mcpace_operator_watch_restarts_total{IT}[$__range]))")
        )
        .with_row(Row("Operator"))
        .with_panel(
            graph("Looks at servers", "reqps", "By how they ended.",
                  (rate("mcpace_operator_reconciles_total", "result"), "{{result}}"))
        )
        .with_panel(
            graph("How long a look takes", "s", "Percentiles.",
                  *((f"histogram_quantile({part:g}, {rate(looks, 'le')})", f"p{part * 100:g}")
                    for part in (0.5, 0.95, 0.99)))
        )
        .with_panel(
            graph("Requests to the API server", "reqps", "By verb and code.",
                  (rate("mcpace_operator_api_requests_total", "verb, code"), "{{verb}} {{code}}"))
        )
        .with_panel(
            graph("Servers that wait", "short", "To be looked at.", (f"sum(mcpace_operator_queue{IT})", "waiting"))
        )
        .with_panel(
            graph("Memory of the operator", "bytes", "Of its process.",
                  (f"process_resident_memory_bytes{IT}{ITSELF}", "{{pod}}"))
        )
        .with_panel(
            graph("CPU of the operator", "short", "Processors in use.",
                  (f"rate(process_cpu_seconds_total{IT}{RATE}){ITSELF}", "{{pod}}"))
        )
    )  # fmt: skip


def _redis(made: Dashboard) -> Dashboard:
    return (
        made.with_row(Row("Redis, as sidecars of all servers see it"))
        .with_panel(
            graph("Reached", "percentunit", "Part of the sidecars that reach the store.",
                  ("avg by (store) (mcpace_redis_up)", "{{store}}"))
        )
        .with_panel(
            graph("Not answered", "reqps", "Commands that a store did not answer.",
                  (stores("mcpace_redis_failures_total"), "{{store}}"))
        )
        .with_row(Row("Redis, as redis_exporter sees it"))
        .with_panel(
            graph("Memory", "bytes", "In use, and the most that it may have.",
                  exported(f"redis_memory_used_bytes{IT}"), exported(f"redis_memory_max_bytes{IT}", "most of {{instance}}"))
        )
        .with_panel(
            graph("Commands", "ops", "Per second.",
                  exported(f"rate(redis_commands_processed_total{IT}{RATE})"))
        )
        .with_panel(
            graph("Clients", "short", "Connections.", exported(f"redis_connected_clients{IT}"))
        )
        .with_panel(
            graph("Evicted keys", "cps", "Results that made room for others; the limits' store evicts none.",
                  exported(f"rate(redis_evicted_keys_total{IT}{RATE})"))
        )
    )  # fmt: skip
