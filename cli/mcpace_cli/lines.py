"""In which line of a manifest each of its fields stands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml

from mcpace_cli.places import server


def lines(path: Path, name: str) -> dict[str, int]:
    """Field of the spec, as `rateLimits.tiers[0].name` -> its line, counted from 1.

    Of a file that has been read before; `name`: NAMESPACE/NAME.
    """
    node = server(path, name)
    places = _within(node, "") if node is not None else ()
    return {field.removeprefix("spec."): line for field, line in places if field.startswith("spec.")}


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
