"""The HorizontalPodAutoscaler, which owns the number of replicas from then on."""

from __future__ import annotations

from typing import Any

from mcpace_operator.children.context import Context


def build(context: Context) -> dict[str, Any] | None:
    """The autoscaler, where the manifest has `autoscaling`."""
    wanted = context.spec.autoscaling
    if wanted is None:
        return None
    targets = {"cpu": wanted.cpu, "memory": wanted.target_memory_utilization}
    metrics = [
        {
            # The server's own use: the sidecar's would say little of how busy the server is.
            "type": "ContainerResource",
            "containerResource": {
                "container": "server",
                "name": resource,
                "target": {"type": "Utilization", "averageUtilization": percent},
            },
        }
        for resource, percent in targets.items()
        if percent is not None
    ]
    spec: dict[str, Any] = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": context.name},
        "minReplicas": wanted.min_replicas,
        "maxReplicas": wanted.max_replicas,
        "metrics": [*metrics, *wanted.metrics],
    }
    if wanted.behavior is not None:
        spec["behavior"] = wanted.behavior
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": context.metadata(),
        "spec": spec,
    }
