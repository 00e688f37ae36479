"""What a server is made of: one file a child, each a pure function of the spec."""

from __future__ import annotations

from typing import Any

from mcpace_operator.children import (
    autoscaler,
    configmap,
    deployment,
    disruptionbudget,
    monitor,
    networkpolicy,
    secret,
    service,
    serviceaccount,
)
from mcpace_operator.children.context import Context


def children(context: Context) -> list[dict[str, Any]]:
    """Every child, in the order in which they are applied: what a pod needs comes before it."""
    every = (
        serviceaccount.build(context),
        secret.build(context),
        configmap.build(context),
        networkpolicy.build(context),
        service.build(context),
        service.metrics(context),
        deployment.build(context),
        disruptionbudget.build(context),
        autoscaler.build(context),
        monitor.service_monitor(context),
        monitor.prometheus_rule(context),
    )
    return [child for child in every if child is not None]
