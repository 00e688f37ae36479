"""Tenants who may write whatever they like in a namespace of their own: nobody else is without an operator."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.kit.operator import Operator
from tests.kit.waiting import until
from tools.cluster.kubectl import Kubectl

SPEC: dict[str, Any] = {"image": "weather:1"}


def raw(api: Kubectl, path: str, text: str, tmp_path: Path) -> None:
    """Create what kubectl's own reading would not let through."""
    file = tmp_path / "raw.json"
    file.write_text(text)
    api.ok("create", "--raw", path, "-f", str(file))


def server(name: str, spec: str) -> str:
    head = f'"apiVersion": "mcpace.dev/v1alpha1", "kind": "McpServer", "metadata": {{"name": "{name}"}}'
    return f'{{{head}, "spec": {spec}}}'


PATH = "/apis/mcpace.dev/v1alpha1/namespaces/default/mcpservers"


def ready(api: Kubectl, name: str) -> dict[str, Any]:
    """The condition alone: Python's own reader of JSON would not survive the rest."""
    text = api.ok("get", f"mcpserver/{name}", "-o", "jsonpath={.status.conditions}")
    return next((c for c in json.loads(text or "[]") if c["type"] == "Ready"), {})


async def test_a_manifest_nested_thousands_deep_is_refused_in_words_and_stops_nobody(
    api: Kubectl, operator: Operator, tmp_path: Path
):
    api.apply("before", **SPEC)
    await until(lambda: api.get("deployment/before"), "a server of somebody's")
    for levels in (150, 3_000, 9_000):
        deep = '{"a":' * levels + "1" + "}" * levels
        spec = f'{{"image": "weather:1", "podTemplate": {{"spec": {{"x": {deep}}}}}}}'
        raw(api, PATH, server(f"deep-{levels}", spec), tmp_path)
    for levels in (150, 3_000, 9_000):
        await until(lambda levels=levels: ready(api, f"deep-{levels}"), "what is wrong")
        said = ready(api, f"deep-{levels}")
        assert said["reason"] == "InvalidSpec"
        assert "nested more than 64 levels deep" in said["message"]
    api.apply("meanwhile", **SPEC)
    await until(lambda: api.get("deployment/meanwhile"), "another one's")
    operator.stop()
    operator.start()
    api.apply("after", **SPEC)
    await until(lambda: api.get("deployment/after"), "the next one's")
    assert "Traceback" not in operator.log.read_text()


async def test_what_no_pod_can_be_is_said_in_the_servers_condition(
    api: Kubectl, operator: Operator, tmp_path: Path
):
    odd = {
        "a": {"env": [{"name": ["A"]}]},
        "b": {"podTemplate": {"spec": {"initContainers": "none"}}},
        "c": {"podTemplate": {"spec": {"containers": [{"name": []}]}}},
        "d": {"volumes": [{"name": {"x": None}}]},
    }
    for name, more in odd.items():
        raw(api, PATH, server(name, json.dumps(SPEC | more)), tmp_path)
    for name in odd:
        await until(lambda name=name: ready(api, name).get("reason") == "ApplyFailed", f"{name}'s trouble")
    assert "Traceback" not in operator.log.read_text()


async def test_a_child_that_was_given_to_another_server_by_its_label_is_put_back(
    api: Kubectl, operator: Operator
):
    api.apply("weather", **SPEC)
    api.apply("other", **SPEC)
    for name in ("weather", "other"):
        await until(lambda name=name: api.get(f"deployment/{name}"), "the servers")
    await operator.settled(api)
    for label in ("mcpace.dev/server=other", "mcpace.dev/server-", "app.kubernetes.io/managed-by-"):
        api.ok("label", "service", "weather", label, "--overwrite")
        await until(
            lambda: (
                (labels := api.get("service/weather")["metadata"]["labels"]).get("mcpace.dev/server")
                == "weather"
                and labels.get("app.kubernetes.io/managed-by") == "mcpace"
            ),
            f"{label} to be undone",
        )
    await operator.settled(api)
    assert "ChildrenInSync" not in api.conditions("other")


async def test_what_is_written_into_an_annotation_forges_no_line_of_the_log(
    api: Kubectl, operator: Operator
):
    api.apply("weather", **SPEC)
    await until(lambda: api.get("deployment/weather"), "the server")
    forged = "x\n2026-11-28 00:00:00,000 INFO everything is fine"
    api.ok("annotate", "mcpserver", "weather", f"mcpace.dev/instance={forged}", "--overwrite")
    await until(lambda: "left alone" in operator.log.read_text(), "it to be left alone")
    assert not any(
        line.startswith("2026-11-28 00:00:00,000") for line in operator.log.read_text().splitlines()
    )
