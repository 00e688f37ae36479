"""Where in a file a part of a document stands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from mcpace_operator.resource.models import KIND
from mcpace_sidecar.contract.config import read_located
from mcpace_sidecar.contract.rules import Location


class Place(NamedTuple):
    """A line and a column, counted from 1."""

    line: int
    column: int


def place(root: yaml.Node, location: Location, *, of_name: bool = False) -> Place:
    """Where a part stands; of what is not written, the nearest part around it that is.

    A field's value, where that is in its line, and else its name; `of_name`: its name in any case.
    """
    node, mark = root, root.start_mark
    for number, part in enumerate(location):
        found = _within(node, part)
        if found is None:
            break
        name, node = found
        last = number + 1 == len(location)
        in_line = name is None or isinstance(node, yaml.ScalarNode) or getattr(node, "flow_style", False)
        mark = node.start_mark if name is None or (last and in_line and not of_name) else name.start_mark
    return Place(mark.line + 1, mark.column + 1)


def listed(document: Any, node: yaml.Node) -> Iterator[tuple[Any, yaml.Node]]:
    """What a document holds: itself, or the items of a List."""
    if (
        isinstance(document, dict)
        and document.get("kind") == "List"
        and isinstance(document.get("items"), list)
    ):
        for number, item in enumerate(document["items"]):
            yield item, part(node, ("items", number))
    else:
        yield document, node


def server(path: Path, name: str) -> yaml.Node | None:
    """The McpServer of a file that was read before; `name`: NAMESPACE/NAME."""
    for document, root in read_located(path):
        for each, node in listed(document, root):
            if isinstance(each, dict) and each.get("kind") == KIND and called(each) == name:
                return node
    return None


def called(document: dict[str, Any]) -> str:
    """NAMESPACE/NAME of what has one."""
    metadata = document.get("metadata")
    if not isinstance(metadata, dict):
        return ""
    return f"{metadata.get('namespace', 'default')}/{metadata.get('name')}"


def part(root: yaml.Node, location: Location) -> yaml.Node:
    """The node of a part that is there."""
    for each in location:
        found = _within(root, each)
        assert found is not None, location
        root = found[1]
    return root


def _within(node: yaml.Node, part: int | str) -> tuple[yaml.Node | None, yaml.Node] | None:
    """The node of a part of this one, with that of its name; None where there is none."""
    if isinstance(node, yaml.MappingNode):
        # What a merge brought stands before what is written here.
        for name, value in reversed(node.value):
            if isinstance(name, yaml.ScalarNode) and name.value == part:
                return name, value
    elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return None, node.value[part]
    return None
