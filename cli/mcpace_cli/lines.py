"""In which line of a manifest each of its fields stands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from mcpace_cli.places import part
from mcpace_operator.resource.models import KIND
from mcpace_sidecar.contract.config import read_located


def lines(path: Path, name: str) -> dict[str, int]:
    """Field of the spec, as `rateLimits.tiers[0].name` -> its line, counted from 1.

    Of a file that has been read before; `name`: NAMESPACE/NAME. What a `List` holds has none.
    """
    for document, root in read_located(path):
        if isinstance(document, dict) and document.get("kind") == KIND and _called(document) == name:
            return dict(_within(part(root, ("spec",)), "")) if document.get("spec") else {}
    return {}


def _called(document: dict[str, Any]) -> str:
    metadata = document.get("metadata")
    if not isinstance(metadata, dict):
        return ""
    return f"{metadata.get('namespace', 'default')}/{metadata.get('name')}"


def _within(node: yaml.Node, place: str) -> Iterator[tuple[str, int]]:
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            here = f"{place}.{name.value}" if place else str(name.value)
            yield here, name.start_mark.line + 1
            yield from _within(value, here)
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            here = f"{place}[{number}]"
            yield here, value.start_mark.line + 1
            yield from _within(value, here)
