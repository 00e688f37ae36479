"""The address of a server: one Service before all its sidecars."""

from __future__ import annotations

from typing import Any, Final

from mcpace_operator.children.meta import Context

PORT: Final = 80


def build(context: Context) -> dict[str, Any]:
    """The Service, from port 80 to the sidecars' data port."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": context.metadata(),
        "spec": {
            "selector": context.selector,
            "ports": [
                {
                    "name": "mcp",
                    "port": PORT,
                    "targetPort": "mcp",
                    "protocol": "TCP",
                    "appProtocol": "http",
                }
            ],
        },
    }


def url(context: Context) -> str:
    """Where clients in the cluster reach the server."""
    key = context.server.key
    return f"http://{key.name}.{key.namespace}.svc:{PORT}{context.spec.endpoint}"
