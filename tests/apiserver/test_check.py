"""`mcpace check` and an API server say the same of a manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.kit.dry import Dry
from tests.kit.programs import ROOT
from tests.kit.violations import SCHEMA, document, fields, violations
from tests.kit.wrong import WRONG
from tools.cluster.controlplane import ControlPlane
from tools.cluster.kubectl import Kubectl

from mcpace_cli.check import judge

METADATA: list[dict[str, Any]] = [
    {"labels": {"a": "b"}},
    {"labels": {"example.com/a": ""}},
    {"labels": {"a b": "c"}},
    {"labels": {"a": "b c"}},
    {"labels": {"a": "x" * 64}},
    {"labels": {"x" * 64: "a"}},
    {"labels": {"Example.com/a": "a"}},
    {"labels": {"/a": "a"}},
    {"labels": {"a/b/c": "a"}},
    {"labels": {"a.-b/c": "a"}},
    {"labels": {"-a": "a"}},
    {"labels": {"a": "a_"}},
    {"labels": {"a": 1}},
    {"annotations": {"a": "anything at all, ü"}},
    {"annotations": {"Example.com/A": "a"}},
    {"annotations": {"a b": "c"}},
    {"annotations": {"": "c"}},
    {"annotations": {"a": 5}},
    {"label": {}},
]
SPECS: list[dict[str, Any]] = [
    {},
    {"concurrency": {"repeatableTools": ["a", "b"]}},
    {"concurrency": {"repeatableTools": ["a", "a"]}},
    {"cache": {"tools": [{"name": "a", "ttl": "1m"}, {"name": "a", "ttl": "2m"}]}},
    {"env": [{"name": "A", "value": 5}]},
    {"podTemplate": {"spec": {"anything": [1, {"at": "all"}]}}},
    {"resources": {"requests": {"cpu": 1, "memory": "64Mi"}}},
    {"resources": {"requests": {"cpu": "a lot"}}},
    {"strategy": {"maxSurge": "25%"}},
    {"strategy": {"maxSurge": "a quarter"}},
]


def verdicts(tmp_path: Path, dry: Dry, body: dict[str, Any], name: str = "") -> tuple[bool, bool, str]:
    """Ours, the API server's, and all the words."""
    path = tmp_path / "manifest.yaml"
    path.write_text(yaml.safe_dump(body, allow_unicode=True))
    ours = judge(path)
    code, words = dry.apply(body, name)
    return ours.valid, code < 400, f"{[str(each) for each in ours.found]} / {code} {words}"


@pytest.fixture
def dry(plane: ControlPlane, api: Kubectl):
    dry = Dry(plane)
    yield dry
    dry.close()


def test_every_wrong_manifest_is_wrong_to_both(tmp_path: Path, dry: Dry):
    for name, spec, _ in WRONG:
        whole = {k: v for k, v in ({"image": "weather:1"} | spec).items() if v is not None}
        ours, theirs, words = verdicts(tmp_path, dry, document(("spec",), {}) | {"spec": whole})
        assert (ours, theirs) == (False, False), (name, words)


@pytest.mark.timeout(600)
def test_every_violation_of_every_field_is_wrong_to_both(tmp_path: Path, dry: Dry):
    tried = 0
    for path, field in fields(SCHEMA):
        if path[0] != "spec":  # another kind, or what Kubernetes keeps of itself
            continue
        for value in violations(field):
            body = document(path, value)
            code, words = dry.apply(body, "x")
            assert code >= 400, (path, value)
            tried += 1
            if not isinstance(value, list) or len(value) < 100:
                file = tmp_path / "manifest.yaml"
                file.write_text(yaml.safe_dump(body))
                assert not judge(file).valid, (path, value, words)
    assert tried > 500


def test_of_metadata_and_of_much_that_is_right_they_say_the_same(tmp_path: Path, dry: Dry):
    right = 0
    bodies = [document(("metadata",), each) for each in METADATA]
    bodies += [document(("spec",), each) for each in SPECS]
    for body in bodies:
        ours, theirs, words = verdicts(tmp_path, dry, body)
        assert ours == theirs, (body, words)
        right += ours
    assert right > 8


def test_the_examples_are_right_to_both(api: Kubectl):
    found = 0
    for path in sorted((ROOT / "examples").rglob("*.yaml")):
        documents = [each for each in yaml.safe_load_all(path.read_text()) if each]
        if any(each.get("kind") == "McpServer" for each in documents):
            found += 1
            assert judge(path).valid
            api.ok("apply", "--dry-run=server", "--validate=strict", "-f", str(path))
    assert found >= 2
