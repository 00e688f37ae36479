"""The sidecar's configuration: the very subtree of the manifest, holding only what was set."""

from __future__ import annotations

from typing import Any, Final

import yaml

from mcpace_operator.children.context import Context

FILE: Final = "config.yaml"


def build(context: Context) -> dict[str, Any]:
    """The ConfigMap; sidecars take a change of it without a restart."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": context.metadata(),
        "data": {FILE: yaml.safe_dump(context.spec.sidecar_config(), sort_keys=True)},
    }
