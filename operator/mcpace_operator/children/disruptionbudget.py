"""The PodDisruptionBudget: a drained node takes one replica at a time."""

from __future__ import annotations

from typing import Any

from mcpace_operator.children.context import Context


def build(context: Context) -> dict[str, Any] | None:
    """The budget, unless the manifest turns it off."""
    wanted = context.spec.pod_disruption_budget
    if not wanted.enabled:
        return None
    if wanted.min_available is not None:
        amount = {"minAvailable": wanted.min_available}
    else:
        amount = {"maxUnavailable": 1 if wanted.max_unavailable is None else wanted.max_unavailable}
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": context.metadata(),
        "spec": {
            **amount,
            "selector": {"matchLabels": context.selector},
            # A pod that never became ready must not hold up a drain.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }
