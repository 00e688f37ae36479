"""What others add to children on a real API server: said, or taken away where it undoes the sidecar."""

from __future__ import annotations

import json
from typing import Any

from tests.kit.operator import Operator
from tests.kit.waiting import until
from tools.cluster.kubectl import Kubectl


def patch(api: Kubectl, what: str, body: dict[str, Any], manager: str = "somebody") -> None:
    kind, name = what.split("/")
    api.ok("patch", kind, name, f"--field-manager={manager}", "-p", json.dumps(body))


def message(api: Kubectl, kind: str) -> str:
    found = [c for c in api.get("mcpserver/weather")["status"]["conditions"] if c["type"] == kind]
    return found[0]["message"] if found else ""


def pod(api: Kubectl) -> dict[str, Any]:
    return dict(api.get("deployment/weather")["spec"]["template"]["spec"])


async def made(api: Kubectl, operator: Operator) -> None:
    api.apply("weather", image="weather:1", replicas=1)
    await until(lambda: api.get("deployment/weather"), "the Deployment")
    await operator.settled(api)


async def test_what_is_added_stays_and_is_said_until_the_manifest_has_it_or_it_goes(
    api: Kubectl, operator: Operator
):
    await made(api, operator)
    debug = {"name": "debug", "image": "busybox"}
    server = {"name": "server", "env": [{"name": "EXTRA", "value": "1"}]}
    patch(api, "deployment/weather", {"spec": {"template": {"spec": {"containers": [debug, server]}}}})
    await until(
        lambda: api.conditions().get("ChildrenInSync") == ("False", "ChildAltered"), "it to be said"
    )
    assert "containers[debug] (by somebody)" in message(api, "ChildrenInSync")
    assert "containers[server].env (by somebody)" in message(api, "ChildrenInSync")
    await operator.settled(api)
    assert {c["name"] for c in pod(api)["containers"]} == {"server", "debug"}
    operator.stop()
    operator.start()
    template = {"spec": {"containers": [debug, server]}}
    api.apply("weather", image="weather:1", replicas=1, podTemplate=template)
    await until(lambda: "ChildrenInSync" not in api.conditions(), "the manifest to have it")


async def test_a_paused_deployment_is_said_and_left_paused(api: Kubectl, operator: Operator):
    await made(api, operator)
    patch(api, "deployment/weather", {"spec": {"paused": True}})
    await until(lambda: api.conditions().get("Ready") == ("False", "PausedByHand"), "the pause to be said")
    assert "kubectl rollout resume deployment/weather" in message(api, "Ready")
    await operator.settled(api)
    assert api.get("deployment/weather")["spec"]["paused"] is True
    api.ok("rollout", "resume", "deployment/weather")
    await until(lambda: api.conditions().get("Ready") == ("False", "Progressing"), "it to go on")


async def test_what_undoes_the_sidecar_is_taken_away_and_told(api: Kubectl, operator: Operator):
    await made(api, operator)
    before = pod(api)
    thief = {"name": "thief", "image": "x", "ports": [{"containerPort": 18080}]}
    sidecar = {"name": "mcpace", "command": ["sleep"], "env": [{"name": "MCPACE_REDIS_CA", "value": "x"}]}
    wrong = {"hostNetwork": True, "shareProcessNamespace": True, "containers": [thief], "initContainers": [sidecar]}  # fmt: skip
    # With the host's network, the API server wants the ports of the host to be the containers' own.
    patch(api, "deployment/weather", {"spec": {"template": {"spec": wrong | {"hostNetwork": None}}}})
    await until(lambda: pod(api) == before, "the pods to be as they were")
    service = {"spec": {"selector": {"app": "other"}, "ports": [{"name": "past", "port": 8000}]}}
    patch(api, "service/weather", service)

    def put_back() -> bool:
        spec = api.get("service/weather")["spec"]
        return spec.get("selector") == {"mcpace.dev/server": "weather"} and len(spec["ports"]) == 1

    await until(put_back, "the Service to be as it was")
    events = api.items("events.events.k8s.io")
    notes = [event["note"] for event in events if event["reason"] == "PutBack"]
    assert any("containers[thief] (by somebody)" in note for note in notes), notes
    assert any("Service weather was changed by somebody" in note for note in notes), notes
    await until(lambda: "ChildrenInSync" not in api.conditions(), "nothing to be said of what has gone")
