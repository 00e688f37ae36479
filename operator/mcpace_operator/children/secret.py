"""What the sidecar must keep to itself: its Redis URLs and the token of its admin port."""

from __future__ import annotations

import base64
from typing import Any

from mcpace_operator.children.context import Context


def build(context: Context) -> dict[str, Any]:
    """The Secret; only the sidecar's container gets it."""
    values = {"admin-token": context.settings.master_key.derive("admin", context.server.uid)}
    if context.credentials.limits_url is not None:
        values["limits-url"] = context.credentials.limits_url
    if context.credentials.cache_url is not None:
        values["cache-url"] = context.credentials.cache_url
    if context.settings.redis_authority is not None:
        values["redis-ca"] = context.settings.redis_authority
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": context.metadata(context.secret_name),
        "type": "Opaque",
        "data": {name: base64.b64encode(value.encode()).decode() for name, value in values.items()},
    }
