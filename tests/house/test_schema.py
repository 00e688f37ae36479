"""The schema for editors: right manifests have no squiggle, wrong ones have one, and every example names it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from tests.kit.programs import ROOT
from tests.kit.violations import SCHEMA as CRDS
from tests.kit.violations import document, fields, violations
from tests.kit.wrong import WRONG

from mcpace_operator.crd import structural
from mcpace_operator.resource.models import McpServerSpec
from mcpace_sidecar.contract.config.base import rules_of
from mcpace_sidecar.contract.config.message import models_of

FILE = ROOT / "docs/mcpserver.schema.json"
SCHEMA = json.loads(FILE.read_text())
JUDGE = jsonschema.Draft7Validator(SCHEMA)
EXAMPLES = [
    path for path in sorted((ROOT / "examples").rglob("*.yaml")) if "kind: McpServer" in path.read_text()
]


def test_it_is_a_schema():
    jsonschema.Draft7Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_example_names_it_and_is_right_by_it(path: Path):
    first = path.read_text().splitlines()[0]
    name = first.removeprefix("# yaml-language-server: $schema=")
    assert name != first, "the first line must name the schema"
    assert (path.parent / name).resolve() == FILE
    for each in yaml.safe_load_all(path.read_text()):
        JUDGE.validate(each)


def messages() -> set[str]:
    def every(model: Any) -> set[str]:
        found = {rule.message for rule in rules_of(model)}
        return found.union(*(every(part) for part in models_of(model).values()))

    return every(McpServerSpec)


@pytest.mark.parametrize(("spec", "words"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_a_wrong_manifest_is_marked_unless_a_rule_between_fields_is_broken(
    spec: dict[str, Any], words: str
):
    whole = {k: v for k, v in ({"image": "weather:1"} | spec).items() if v is not None}
    between = words == "Duplicate value" or any(words in message for message in messages())
    assert JUDGE.is_valid(document(("spec",), {}) | {"spec": whole}) == between


def test_every_violation_of_every_field_is_marked():
    tried = 0
    for path, field in fields(CRDS):
        for value in violations(field):
            if isinstance(value, list) and len(value) > 100 and field.get("items", {}).get("type") is None:
                continue
            tried += path[0] == "spec"
            assert path[0] == "kind" or not JUDGE.is_valid(document(path, value)), (path, value)
    assert tried > 500


def test_it_knows_each_field_and_says_what_it_is():
    spec = structural(McpServerSpec.model_json_schema(by_alias=True))
    theirs = SCHEMA["then"]["properties"]["spec"]

    def same(ours: dict[str, Any], other: dict[str, Any], path: str) -> None:
        assert ours.get("description") == other.get("description"), path
        assert set(ours.get("properties", {})) == set(other.get("properties", {})), path
        for name, field in ours.get("properties", {}).items():
            same(field, other["properties"][name], f"{path}.{name}")
        if "items" in ours:
            same(ours["items"], other["items"], f"{path}[]")

    same(spec, theirs, "spec")


def test_other_documents_of_a_file_are_left_alone():
    JUDGE.validate(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"a": "b"}}
    )
    assert not JUDGE.is_valid({"apiVersion": "mcpace.dev/v1alpha1", "spec": {}}), "it has no kind yet"
