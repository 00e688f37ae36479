"""The addresses of a server: one for callers before all its sidecars, one for Prometheus behind them."""

from __future__ import annotations

from typing import Any, Final

from mcpace_operator.children.context import Context

PORT: Final = 80
METRICS: Final = {"app.kubernetes.io/component": "metrics"}


def build(context: Context) -> dict[str, Any]:
    """The Service, from port 80 to the sidecars' data port."""
    port = {"name": "mcp", "port": PORT, "targetPort": "mcp", "protocol": "TCP", "appProtocol": "http"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": context.metadata(),
        "spec": {"selector": context.selector, "ports": [port]},
    }


def metrics(context: Context) -> dict[str, Any]:
    """The headless Service that names each pod's admin port; pods that are not ready have metrics too."""
    port = context.spec.sidecar.admin_port
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": context.metadata(metrics_name(context), METRICS),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": context.selector,
            "ports": [{"name": "metrics", "port": port, "targetPort": "admin", "protocol": "TCP"}],
        },
    }


def metrics_name(context: Context) -> str:
    """The name of the headless Service."""
    return f"{context.name}-metrics"


def url(context: Context) -> str:
    """Where clients in the cluster reach the server."""
    key = context.server.key
    return f"http://{key.name}.{key.namespace}.svc:{PORT}{context.spec.endpoint}"
