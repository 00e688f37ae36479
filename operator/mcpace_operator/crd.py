"""The CustomResourceDefinition, generated from the models.

`python -m mcpace_operator.crd` writes it, `--check` tells whether the written one is current.
Defaults stay out of it on purpose: a stored default would never change with an upgrade.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Final

import yaml

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

HEADER: Final = "# Generated from the models by `python -m mcpace_operator.crd`; do not edit.\n"
ROOT: Final = Path(__file__).parents[2]
TARGETS: Final = (ROOT / "crds/mcpservers.yaml", ROOT / "charts/mcpace/files/mcpservers.yaml")

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


def main() -> int:
    """Write the files, or check them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail where a written file is not current")
    check = parser.parse_args().check
    # Through JSON, so that no YAML anchors appear where parts are shared.
    text = HEADER + yaml.safe_dump(json.loads(json.dumps(definition())), sort_keys=False, width=100)
    stale: list[str] = []
    for path in TARGETS:
        if check and (not path.exists() or path.read_text(encoding="utf-8") != text):
            stale.append(str(path.relative_to(ROOT)))
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    if stale:
        print(  # noqa: T201 - a person asked
            f"{', '.join(stale)}: not current; run python -m mcpace_operator.crd and commit",
            file=sys.stderr,
        )
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
