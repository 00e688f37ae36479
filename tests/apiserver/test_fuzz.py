"""Thousands of generated manifests: each is refused at apply in words, or makes children that the API server takes.

What the API server and the operator say of one must agree: a manifest that is stored can be used.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.kit.dry import Dry
from tests.kit.programs import ROOT
from tests.kit.repeating import repetitions
from tests.kit.wrong import WRONG
from tools.cluster.controlplane import ControlPlane
from tools.cluster.kubectl import Kubectl

from mcpace_operator.children import children
from mcpace_operator.children.context import Context, Credentials
from mcpace_operator.cluster.client import ApiError
from mcpace_operator.comparison.drift import stamped
from mcpace_operator.masterkey import MasterKey
from mcpace_operator.resource.models import API_VERSION, KIND, McpServerSpec, parse_spec
from mcpace_operator.resource.server import Key, Server
from mcpace_operator.resource.workload import Deployment
from mcpace_operator.settings import OperatorSettings
from mcpace_operator.status.document import status
from mcpace_operator.status.seen import Seen, StoreState
from mcpace_sidecar.contract.config import Model
from mcpace_sidecar.contract.config.base import rules_of
from mcpace_sidecar.contract.config.message import models_of
from mcpace_sidecar.errors import ConfigError

EXAMPLES = repetitions(10_000)
SETTINGS = OperatorSettings(master_key=MasterKey(b"k" * 32))
NOW = datetime(2026, 11, 22, tzinfo=UTC)

# What people write where anything is taken: as in a pod, right and wrong.
PARTS = st.sampled_from(
    [
        {},
        {"name": "a"},
        {"name": "a", "value": "b"},
        {"name": "data", "mountPath": "/data"},
        {"name": "data", "emptyDir": {}},
        {"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        {"secretRef": {"name": "s"}},
        {"runAsUser": 0},
        {"nodeSelector": {"disk": "ssd"}, "containers": [{"name": "server", "tty": True}]},
        {"initContainers": [{"name": "mcpace", "restartPolicy": "Never"}]},
        {"containers": "none", "volumes": {"a": 1}},
        {"podSelector": {"matchLabels": {"a": "b"}}},
        {"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]},
        {
            "type": "Resource",
            "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 5}},
        },
        {"scaleDown": {"stabilizationWindowSeconds": 60}},
        {"x": [1, {"y": None}], "": ""},
    ]
)
TEXTS = st.sampled_from(
    ["a", "free", "pro", "get-weather", "30s", "5m", "64Mi", "5%", "/mcp", "/sse", "weather:1", "http://x.example",
     "10.0.0.0/8", "X-User", "", "Ä ö", "a" * 70, "100m", "sub", "-", "../x", "\n"]
)  # fmt: skip
INTS = st.sampled_from([0, 1, 2, 10, 70, 300, 1000, 6432, 8000, 18080, 18090, 65535, 65536, -1, 10**12])
ODD = st.sampled_from([None, True, 1.5, "x", [], {}, [[]]])


def values(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that a schema allows, and now and then one that it does not."""
    right = _right(schema)
    return st.integers(0, 60).flatmap(lambda dice: ODD if dice == 0 else right)


def _right(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema.get("x-kubernetes-int-or-string"):
        return INTS | TEXTS
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return PARTS
    kind = schema.get("type")
    if kind == "object":
        if "properties" not in schema:
            inner = schema.get("additionalProperties")
            named = st.sampled_from(["cpu", "memory", "a", "mcpace.dev/server", "example.com/x"])
            return st.dictionaries(named, values(inner) if inner else TEXTS, max_size=2)
        required = set(schema.get("required", ()))
        fields = {name: values(part) for name, part in schema["properties"].items()}
        return st.fixed_dictionaries(
            {name: field for name, field in fields.items() if name in required},
            optional={name: field for name, field in fields.items() if name not in required},
        )
    if kind == "array":
        return st.lists(values(schema["items"]), max_size=2)
    if kind == "integer":
        return INTS
    if kind == "number":
        return st.sampled_from([0, 0.5, 1, 2])
    if kind == "boolean":
        return st.booleans()
    return TEXTS


def manifests() -> st.SearchStrategy[dict[str, Any]]:
    """Specs: a few fields at a time, so that most are not refused for one of many."""
    crd = yaml.safe_load((ROOT / "crds/mcpservers.yaml").read_text())
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    fields = {name: values(part) for name, part in schema["properties"].items() if name != "image"}
    several = st.lists(st.sampled_from(sorted(fields)), max_size=4, unique=True)
    return several.flatmap(
        lambda chosen: st.fixed_dictionaries(
            {"image": st.just("weather:1"), **{name: fields[name] for name in chosen}}
        )
    )


@pytest.mark.repeated
@pytest.mark.timeout(1200)
def test_a_manifest_is_refused_in_words_or_makes_children_that_are_taken(plane: ControlPlane, api: Kubectl):
    dry, seen = Dry(plane), Counter()

    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, derandomize=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )  # fmt: skip
    @given(manifests())
    def judge(spec: dict[str, Any]) -> None:
        metadata = {"name": "fuzz", "namespace": "default"}
        code, words = dry.apply(
            {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec}
        )
        if code >= 400:
            assert "spec" in words, words
            try:
                parse_spec(spec)
            except ConfigError:
                pass
            else:
                raise AssertionError(f"refused by a cluster, taken by a laptop: {spec}: {words}")
            seen["refused"] += 1
            return
        try:
            parsed = parse_spec(spec)
        except ConfigError as error:
            raise AssertionError(f"stored, and then not usable: {error}") from None
        server = Server(Key("default", "fuzz"), "4ad4d7b8-6b1c-4b8e-9a59-58f6a43f1a0b", 1, spec, {})
        context = Context(server, parsed, SETTINGS, Credentials("redis://u:p@l:6379", "redis://u:p@c:6379"))
        made = children(context)
        assert made == children(context)
        status(Seen(context, Deployment(), StoreState(None), StoreState(None)), NOW)
        refused = [
            (body["kind"], *answer) for body in made if (answer := dry.apply(stamped(body)))[0] >= 400
        ]
        for kind, refusal, said in refused:
            # What is written as in a pod is judged as a pod: the condition quotes the API server.
            assert ApiError(refusal, said).final, (kind, refusal, said)
            assert said, kind
            assert kind in ("Deployment", "HorizontalPodAutoscaler", "NetworkPolicy", "ConfigMap"), (
                kind,
                said,
            )
        seen["refused child" if refused else "made"] += 1

    try:
        judge()
    finally:
        dry.close()
    assert seen["made"] > EXAMPLES / 10, seen
    assert seen["refused"] > EXAMPLES / 20, seen


WELL_WRITTEN = (
    "a", "b", "free", "pro", "30s", "64Ki", "5%", "0%", "/mcp", "https://a.example", "https://*", "10.0.0.0/8",
    "Authorization", "X-Forwarded-For", "X-User", "x-user",
)  # fmt: skip
RULED = ("rateLimits", "clients", "cache", "responses", "egress", "strategy", "autoscaling", "replicas",
         "resources", "podDisruptionBudget", "port", "sidecar", "database", "sessions", "transport",
         "stdio", "command")  # fmt: skip
"""The fields that rules are of, or look at."""


def well_written(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values in which nothing but a rule of a model can be broken."""
    rules = schema.get("x-kubernetes-validations", ())
    if schema.get("type") == "object" and "properties" in schema:
        required = set(schema.get("required", ()))
        fields = {name: well_written(part) for name, part in schema["properties"].items()}
        return st.fixed_dictionaries(
            {name: field for name, field in fields.items() if name in required},
            optional={name: field for name, field in fields.items() if name not in required},
        )
    if schema.get("type") == "object":
        return st.sampled_from([{}, {"memory": "64Mi"}, {"cpu": "100m"}])
    if schema.get("type") == "array":
        return st.lists(well_written(schema["items"]), min_size=schema.get("minItems", 0), max_size=2)
    if schema.get("type") == "integer":
        numbers = (0, 1, 2, 11, 70, 6432, 8000, 18080, 18090)
        least, most = schema.get("minimum", 0), schema.get("maximum", 65535)
        return st.sampled_from([number for number in numbers if least <= number <= most])
    if "enum" in schema or schema.get("type") in ("boolean", "number"):
        return _right(schema)
    patterns = [
        schema.get("pattern", ""),
        *(re.findall(r"matches\('(.*)'\)", rule["rule"])[0] for rule in rules),
    ]
    texts = [text for text in WELL_WRITTEN if all(re.search(pattern, text) for pattern in patterns)]
    assert texts, schema
    return st.sampled_from([*texts, 0, 1] if schema.get("x-kubernetes-int-or-string") else texts)


def every_model(model: type[Model]) -> Iterator[type[Model]]:
    yield model
    for part in models_of(model).values():
        yield from every_model(part)


def _refusal(spec: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as refused:
        parse_spec(spec)
    return str(refused.value)


@pytest.mark.repeated
@pytest.mark.timeout(1200)
def test_an_api_server_and_a_laptop_refuse_for_the_same_rule(plane: ControlPlane, api: Kubectl):
    dry, kept, refused_for = Dry(plane), Counter(), Counter()
    crd = yaml.safe_load((ROOT / "crds/mcpservers.yaml").read_text())
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    fields = {name: well_written(schema["properties"][name]) for name in RULED}
    messages = {rule.message for model in every_model(McpServerSpec) for rule in rules_of(model)}

    @settings(
        max_examples=repetitions(20_000), deadline=None, database=None, derandomize=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )  # fmt: skip
    @given(
        st.lists(st.sampled_from(RULED), min_size=1, max_size=6, unique=True).flatmap(
            lambda chosen: st.fixed_dictionaries({name: fields[name] for name in chosen})
        )
    )
    def judge(fields: dict[str, Any]) -> None:
        spec = {"image": "weather:1", **fields}
        metadata = {"name": "rules", "namespace": "default"}
        code, words = dry.apply(
            {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec}
        )
        try:
            parse_spec(spec)
        except ConfigError as error:
            assert code >= 400, (spec, str(error))
            said = [message for message in messages if message in str(error)]
            assert any(message in words for message in said) or "duplicate entries" in words, (
                spec,
                error,
                words,
            )
            refused_for.update(said)
        else:
            assert code < 400, (spec, words)
            kept["all"] += 1

    try:
        judge()
    finally:
        dry.close()
    assert kept["all"] > repetitions(20_000) / 20, refused_for
    # What chance has left out is judged alike, too, where these are applied and checked.
    written = " ".join(_refusal({"image": "weather:1", **wrong}) for _, wrong, _ in WRONG)
    unbroken = {message for message in messages - refused_for.keys() if message not in written}
    assert not unbroken, f"no manifest broke these rules: {sorted(unbroken)}"
