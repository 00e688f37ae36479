"""What a server is made of: one file a child, each a pure function of the spec."""

from __future__ import annotations

from typing import Any

from mcpace_operator.children import configmap, deployment, secret, service, serviceaccount
from mcpace_operator.children.meta import Context


def children(context: Context) -> list[dict[str, Any]]:
    """Every child, in the order in which they are applied: what a pod needs comes before it."""
    return [
        serviceaccount.build(context),
        secret.build(context),
        configmap.build(context),
        service.build(context),
        deployment.build(context),
    ]
