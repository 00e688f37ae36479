"""The CustomResourceDefinition, as `kubectl explain` and `kubectl get` show it."""

from collections.abc import Iterator
from typing import Any

from mcpace_operator.crd import definition

(VERSION,) = definition()["spec"]["versions"]


def fields(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path or "McpServer", schema
    for name, field in schema.get("properties", {}).items():
        if (path, name) not in [("", "apiVersion"), ("", "kind"), ("", "metadata")]:
            yield from fields(field, f"{path}.{name}")
    items = schema.get("items")
    if isinstance(items, dict):
        for name, field in items.get("properties", {}).items():
            yield from fields(field, f"{path}[].{name}")


def test_kubectl_explain_has_a_word_on_every_field():
    every = dict(fields(VERSION["schema"]["openAPIV3Schema"]))
    assert len(every) > 150
    assert [path for path, field in every.items() if not field.get("description", "").strip()] == []


def test_a_column_shows_a_field_that_there_is():
    every = dict(fields(VERSION["schema"]["openAPIV3Schema"]))
    columns = VERSION["additionalPrinterColumns"]
    paths = {column["name"]: column["jsonPath"] for column in columns}
    for name, path in paths.items():
        if "?(" not in path and not path.startswith(".metadata"):
            assert path in every, name
    wide = {column["name"] for column in columns if column.get("priority")}
    assert wide == {"Reason", "P50", "P99", "Server", "Version", "Protocol", "Image"}
