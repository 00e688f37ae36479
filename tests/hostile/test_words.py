"""What is wrong in a manifest is said in our words, whatever it is: tried for every field of the schema."""

from pathlib import Path

import pytest
import yaml
from tests.kit.violations import SCHEMA, document, fields, violations
from tests.kit.wrong import WRONG

from mcpace_cli.lines import lines
from mcpace_cli.manifest import Resource, read
from mcpace_operator.resource.models import API_VERSION, KIND
from mcpace_sidecar.contract.config import parse_strictly
from mcpace_sidecar.contract.config.base import PATTERNS
from mcpace_sidecar.contract.config.message import dotted
from mcpace_sidecar.errors import ConfigError

LIBRARYS = (
    "Input should", "Extra input", "Field required", "String should", "valid tuple", "valid dictionary",
    "instance of", "constrained", "function-", "validation", "cannot be used (", "of the form", "Value error",
    "should have at",
)  # fmt: skip


@pytest.mark.parametrize(("path", "field"), [pytest.param(p, f, id=dotted(p)) for p, f in fields(SCHEMA)])
def test_every_violation_of_a_field_is_said_in_our_words_at_its_place(path, field):
    for value in violations(field):
        with pytest.raises(ConfigError) as refused:
            parse_strictly(Resource, document(path, value))
        lines = str(refused.value).splitlines()
        assert any(line.startswith(dotted(path)) for line in lines), (value, lines)
        assert not [line for line in lines for words in LIBRARYS if words in line], (value, lines)


def test_every_pattern_of_the_schema_has_words():
    patterns = {
        field["pattern"]
        for _, field in fields(SCHEMA)
        if "pattern" in field and field.get("type") == "string"
    }
    assert patterns <= set(PATTERNS)
    assert all(words.startswith(("write ", "metadata.name must")) for words in PATTERNS.values())


@pytest.mark.parametrize(
    ("spec", "words"), [pytest.param(spec, words, id=name) for name, spec, words in WRONG]
)
def test_what_the_api_server_refuses_is_refused_here(spec, words):
    written = {"image": "x"} | spec
    manifest = document(("spec",), {})
    manifest["spec"] = {name: value for name, value in written.items() if value is not None}
    with pytest.raises(ConfigError) as refused:
        parse_strictly(Resource, manifest)
    assert not [w for w in LIBRARYS if w in str(refused.value)], refused.value
    assert all(line.startswith("spec.") for line in str(refused.value).splitlines())


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"rate_limits": {}}, "spec.rate_limits: there is no such field; did you mean rateLimits?"),
        ({"ratelimit": {}}, "spec.ratelimit: there is no such field; did you mean rateLimits?"),
        ({"apiKeys": []}, "spec.apiKeys: there is no such field; did you mean spec.clients.apiKeys?"),
        ({"clients": {"jwt": {"jwksUrl": "https://x"}}}, "spec.clients.jwt.jwksUrl: there is no such field; did you mean jwksURL?"),
        ({"zebra": 1}, "spec.zebra: there is no such field"),
        ({"rateLimits": {"tools": ["slow"]}}, "spec.rateLimits.tools[0]: write {name: slow}, and beside it"),
        ({"cache": {"tools": ["a b"]}}, 'spec.cache.tools[0]: write {name: "a b"}, and'),
        ({"clients": {"apiKeys": [{"tier": "pro", "secretRef": "s"}]}}, "secretRef: write {name: s}"),
        ({"cache": "yes"}, "spec.cache: write fields below it, not one value"),
        ({"publicURL": "x"}, "spec.publicURL: write an http or https URL"),
        ({"clients": {"jwt": {"jwksURL": "x"}}}, "jwksURL: write a URL, such as https://"),
        ({"port": "8000"}, "spec.port: write a whole number, without quotes: 8000"),
        ({"command": "python server.py"}, "spec.command: write a list: lines below it that begin with '-'"),
        ({"cache": {"tools": [{"name": "t", "ttl": 60}]}}, "spec.cache.tools[0].ttl: write a duration such as"),
        ({"resources": {"requests": {"memory": "lots"}}}, "spec.resources.requests.memory: write an amount such as"),
        ({"replicas": 2, "autoscaling": {"maxReplicas": 3}}, "spec.replicas: write replicas or autoscaling, not both"),
        ({"podTemplate": {"metadata": {"labels": {"a.b/c": 1}}}}, 'spec.podTemplate.metadata.labels["a.b/c"]: write text, in quotes: "1"'),
    ],
)  # fmt: skip
def test_the_words_say_what_was_meant(tmp_path: Path, spec, words):
    path = tmp_path / "m.yaml"
    path.write_text(yaml.safe_dump(document(("spec",), spec)))
    with pytest.raises(ConfigError) as refused:
        read(path)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"name": "My_Server"}, "metadata.name: metadata.name must be at most 52 lower-case letters"),
        ({"name": "x" * 53}, "metadata.name: write at most 52 characters"),
        ({"name": "1st"}, "metadata.name"),
        ({"name": 5}, 'metadata.name: write text, in quotes: "5"'),
        ({"name": "x", "namespace": "My"}, "metadata.namespace"),
        ({"name": "x", "label": {}}, "metadata.label: there is no such field; did you mean labels?"),
        (
            {"name": "x", "labels": {"version": 1.4}},
            'metadata.labels.version: write text, in quotes: "1.4"',
        ),
    ],
)
def test_the_name_and_labels_are_those_a_cluster_takes(tmp_path: Path, metadata, words):
    path = tmp_path / "m.yaml"
    path.write_text(yaml.safe_dump(document((), {"metadata": metadata}) | {"metadata": metadata}))
    with pytest.raises(ConfigError) as refused:
        read(path)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "spec:\n  image: x\n  cache: {}\n  image: y\n",
            "line 7, column 3: the key 'image' stands twice in one place",
        ),
        ("spec: {image: x, image: y}\n", "the key 'image' stands twice"),
        ("spec:\n\timage: x\n", "line 5, column 1 is not YAML: found character '\\t'"),
        ("spec: [\n", "is not YAML"),
        ("spec: " + "[" * 5000 + "]" * 5000 + "\n", "nested too deeply, or in itself"),
        ("spec: {port: " + "9" * 5000 + "}\n", "a number is too long"),
        ("spec: &a {image: x, podTemplate: {spec: *a}}\n", "nested too deeply, or in itself"),
        ("spec: {port: !!int ''}\n", "a value not what its tag says"),
        ("spec: {port: !!bool x}\n", "a value not what its tag says"),
        ("spec: {image: !!binary aGk=}\n", "could not determine a constructor for the tag"),
        ("spec: {image: !!python/name:os.system ''}\n", "could not determine a constructor for the tag"),
        ("spec: {port: .nan}\n", "spec.port: write a whole number"),
        (
            "a0: &a0 [x, x, x, x, x, x, x, x]\n"
            + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 8)}]\n" for n in range(1, 12)),
            "repeats itself too often by its aliases",
        ),
    ],
)
def test_what_kubectl_does_not_read_is_not_read_here(tmp_path: Path, text, words):
    path = tmp_path / "m.yaml"
    path.write_text(f"apiVersion: {API_VERSION}\nkind: {KIND}\nmetadata: {{name: x}}\n" + text)
    with pytest.raises(ConfigError) as refused:
        read(path)
    assert words in str(refused.value)


def test_a_field_without_a_value_is_refused_as_a_cluster_does(tmp_path: Path):
    path = tmp_path / "m.yaml"
    path.write_text(
        f"apiVersion: {API_VERSION}\nkind: {KIND}\nmetadata: {{name: x}}\n"
        "spec:\n  image: x\n  cache:\n  rateLimits:\n    tools: [{name: t, cost: }]\n"
    )
    with pytest.raises(ConfigError) as refused:
        read(path)
    assert "spec.cache: write a value, or leave it out" in str(refused.value)
    assert "spec.rateLimits.tools[0].cost: write a value, or leave it out" in str(refused.value)


def test_what_is_refused_is_told_with_its_line_and_column_in_a_list_too(tmp_path: Path):
    path = tmp_path / "m.yaml"
    server = (
        f"apiVersion: {API_VERSION}\nkind: {KIND}\nmetadata: {{name: x}}\nspec:\n  port: a\n  replica: 2\n"
    )
    path.write_text(f"kind: Secret\n---\n{server}")
    with pytest.raises(ConfigError) as refused:
        read(path)
    _, port, replica = str(refused.value).splitlines()
    assert port.startswith("  line 7, column 9: spec.port: write a whole number")
    assert replica.startswith("  line 8, column 3: spec.replica: there is no such field")
    path.write_text("kind: List\nitems:\n- " + server.replace("\n", "\n  ").rstrip() + "\n")
    with pytest.raises(ConfigError) as refused:
        read(path)
    assert "  line 7, column 11: spec.port: " in str(refused.value)
    path.write_text(path.read_text().replace("port: a", "port: 8001").replace("    replica: 2\n", ""))
    assert lines(path, read(path).name) == {"port": 7}


def test_a_date_is_text(tmp_path: Path):
    path = tmp_path / "m.yaml"
    path.write_text(
        f"apiVersion: {API_VERSION}\nkind: {KIND}\nmetadata: {{name: x, annotations: {{built: 2026-01-01}}}}\n"
        "spec:\n  image: x\n  podTemplate: {spec: {since: 2026-01-01, none: null}}\n"
    )
    assert read(path).spec.pod_template.spec == {"since": "2026-01-01", "none": None}
