"""The CustomResourceDefinition, generated from the models.

Defaults stay out of it on purpose: a stored default would never change with an upgrade.
"""

from __future__ import annotations

from typing import Any, Final

from mcpace_operator.resource.models import (
    GROUP,
    KIND,
    LONGEST_NAME,
    NAME_PATTERN,
    NAME_WORDS,
    PLURAL,
    VERSION,
    McpServerSpec,
)
from mcpace_operator.status.document import STATUS_SCHEMA

_DROPPED: Final = ("title", "default")
_LIST_LIMIT: Final = 512


COLUMNS: Final = (
    ("Ready", "string", ".status.conditions[?(@.type=='Ready')].status"),
    ("Replicas", "string", ".status.replicasReady"),
    ("P95", "string", ".status.performance.p95"),
    ("Calls/s", "string", ".status.performance.callsPerSecond"),
    ("Hits", "string", ".status.performance.hitRatio"),
    ("Errors", "string", ".status.performance.errorRate"),
    ("Limited", "string", ".status.performance.limitedRatio"),
    ("URL", "string", ".status.url"),
    ("Reason", "string", ".status.conditions[?(@.type=='Ready')].reason"),
    ("P50", "string", ".status.performance.p50"),
    ("P99", "string", ".status.performance.p99"),
    ("Server", "string", ".status.serverInfo.name"),
    ("Version", "string", ".status.serverInfo.version"),
    ("Protocol", "string", ".status.serverInfo.protocolVersion"),
    ("Image", "string", ".spec.image"),
    ("Age", "date", ".metadata.creationTimestamp"),
)

_WIDE: Final = {"Reason", "P50", "P99", "Server", "Version", "Protocol", "Image"}
"""Columns that `kubectl get -o wide` shows."""


def definition() -> dict[str, Any]:
    """The CustomResourceDefinition."""
    spec = structural(McpServerSpec.model_json_schema(by_alias=True))
    schema = {
        "type": "object",
        "description": "An MCP server, and the performance layer that it is given.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": STATUS_SCHEMA,
        },
        "x-kubernetes-validations": [
            {
                "rule": f"self.metadata.name.size() <= {LONGEST_NAME}"
                f" && self.metadata.name.matches('{NAME_PATTERN}')",
                "message": NAME_WORDS,
            }
        ],
    }
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        },
        "additionalPrinterColumns": [
            {"name": name, "type": kind, "jsonPath": path, **({"priority": 1} if name in _WIDE else {})}
            for name, kind, path in COLUMNS
        ],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["mcps"],
                "categories": ["mcpace"],
            },
            "versions": [version],
        },
    }


def structural(schema: dict[str, Any], dropped: tuple[str, ...] = _DROPPED) -> dict[str, Any]:
    """A JSON Schema as Kubernetes wants it: references in place, optional values without null."""
    definitions = schema.get("$defs", {})

    def resolve(node: Any) -> Any:
        if isinstance(node, list):
            return [resolve(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            target = definitions[node["$ref"].rpartition("/")[2]]
            extra = {key: value for key, value in node.items() if key != "$ref"}
            return resolve(target | extra)
        if "anyOf" in node:
            (chosen,) = (option for option in node["anyOf"] if option != {"type": "null"})
            extra = {key: value for key, value in node.items() if key != "anyOf"}
            return resolve(chosen | extra)
        resolved: dict[str, Any] = {
            key: {name: resolve(value) for name, value in value.items()}
            if key == "properties"
            else resolve(value)
            for key, value in node.items()
            if key not in dropped and key != "$defs" and (key, value) != ("additionalProperties", False)
        }
        if resolved.get("type") == "string" and "enum" not in resolved:
            resolved.setdefault("maxLength", 4096)
        if resolved.get("type") == "array":
            resolved.setdefault("maxItems", _LIST_LIMIT)
        return resolved

    return dict(resolve(schema))
