"""The identity of a server's pods. It may do nothing, and its token is not mounted."""

from __future__ import annotations

from typing import Any

from mcpace_operator.children.context import Context


def build(context: Context) -> dict[str, Any]:
    """The ServiceAccount."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": context.metadata(),
        "automountServiceAccountToken": False,
    }
