"""Every field of the schema of an McpServer, and values that it must not have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from mcpace_cli.manifest import Resource
from mcpace_operator.crd import structural
from mcpace_operator.resource.models import API_VERSION, KIND

SCHEMA: Final = structural(Resource.model_json_schema(by_alias=True))


def fields(
    schema: dict[str, Any], path: tuple[Any, ...] = ()
) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Every place of the schema, a list's items at 0."""
    for name, field in schema.get("properties", {}).items():
        yield (*path, name), field
        yield from fields(field, (*path, name))
        if isinstance(field.get("items"), dict):
            yield (*path, name, 0), field["items"]
            yield from fields(field["items"], (*path, name, 0))


def violations(field: dict[str, Any]) -> Iterator[Any]:
    """Values that a field must not have."""
    kind = "int-or-string" if field.get("x-kubernetes-int-or-string") else field.get("type")
    if kind is None:
        return
    yield from {
        "string": [8000, True, 0.5, [], {}],
        "integer": ["8000", "many", 1.5, True, [], {}],
        "int-or-string": [True, 0.5, [], {}, "§", -1],
        "number": ["0.5", True, [], {}],
        "boolean": ["yes", 1, [], {}],
        "array": ["x", 5, {}],
        "object": ["x", 5, []],
    }[kind]
    if "maxLength" in field and "enum" not in field:
        yield "x" * (field["maxLength"] + 1)
    if field.get("minLength", 0) > 0:
        yield ""
    if "enum" in field:
        yield "§"
    if "pattern" in field and kind == "string":
        yield "§" * max(field.get("minLength", 1), 1)
    if "maximum" in field:
        yield field["maximum"] + 1
    if "minimum" in field:
        yield field["minimum"] - 1
    if "maxItems" in field and kind == "array":
        yield [None] * (field["maxItems"] + 1)
    if "minItems" in field:
        yield []


def document(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    for part in reversed(path):
        value = [value] if part == 0 else {part: value}
    base: dict[str, Any] = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": "x"},
        "spec": {"image": "x"},
    }
    return dict(merged(base, value))


def merged(base: Any, over: Any) -> Any:
    if isinstance(base, dict) and isinstance(over, dict):
        return base | {key: merged(base.get(key), value) for key, value in over.items()}
    return over
