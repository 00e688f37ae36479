"""The children on a real API server: who owns what, and what becomes of it when a manifest changes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.kit.operator import Operator
from tests.kit.waiting import until
from tools.cluster.binaries import program, prometheus_crds
from tools.cluster.kubectl import Kubectl

SPEC: dict[str, Any] = {"image": "weather:1"}
SCALED: dict[str, Any] = {"minReplicas": 2, "maxReplicas": 20}


async def made(api: Kubectl, **spec: Any) -> None:
    api.apply("weather", **SPEC | spec)
    await until(lambda: api.get("deployment/weather"), "the Deployment")


def replicas(api: Kubectl) -> int:
    return int(api.get("deployment/weather")["spec"]["replicas"])


async def history(api: Kubectl, operator: Operator, log: Path) -> list[int]:
    """The numbers of replicas that the Deployment had, as its events told them."""
    await operator.settled(api)
    lines = log.read_text().splitlines()
    return [int(line) for number, line in enumerate(lines) if number == 0 or line != lines[number - 1]]


@pytest.fixture
def replicas_log(api: Kubectl, tmp_path: Path):
    """A file of every number of replicas that the Deployment takes, from the time it is watched."""
    path = tmp_path / "replicas"
    watching: list[subprocess.Popen[bytes]] = []

    def watch() -> Path:
        command = ("get", "deployment", "weather", "-w", "-o", "jsonpath={.spec.replicas}{'\\n'}")
        with path.open("wb") as output:
            watching.append(api.start(*command, stdout=output))
        return path

    yield watch
    for process in watching:
        process.kill()
        process.wait()


async def test_with_autoscaling_the_operator_never_writes_replicas(api: Kubectl, operator: Operator):
    await made(api, autoscaling=SCALED)
    scaler = api.get("horizontalpodautoscaler/weather")["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (2, 20)
    api.ok("scale", "deployment", "weather", "--replicas=7")
    for number in range(3):  # each of these brings the operator to look at it
        api.ok("label", "mcpserver", "weather", f"look={number}", "--overwrite")
        api.ok("label", "deployment", "weather", f"look={number}", "--overwrite")
        await operator.settled(api)
        assert replicas(api) == 7
    api.apply("weather", **SPEC | {"autoscaling": SCALED, "env": [{"name": "A", "value": "1"}]})
    await until(
        lambda: "env" in api.get("deployment/weather")["spec"]["template"]["spec"]["containers"][0],
        "the new pods' environment",
    )
    assert replicas(api) == 7
    managers = api.get("deployment/weather", fields=True)["metadata"]["managedFields"]
    ours = [m for m in managers if m["manager"].startswith("mcpace") and "f:spec" in m["fieldsV1"]]
    assert ours
    assert not [m for m in ours if "f:replicas" in m["fieldsV1"]["f:spec"]]


async def test_an_autoscaler_that_reads_no_metrics_is_said(api: Kubectl, operator: Operator):
    await made(api, autoscaling=SCALED)
    await until(
        lambda: api.conditions().get("AutoscalingActive") == ("False", "NoMetrics"), "it to be said", 60
    )
    (said,) = [
        c for c in api.get("mcpserver/weather")["status"]["conditions"] if c["type"] == "AutoscalingActive"
    ]
    assert "metrics" in said["message"]


async def test_autoscaling_comes_changes_and_goes_without_a_dip_in_replicas(
    api: Kubectl, operator: Operator, replicas_log
):
    await made(api, replicas=4)
    await until(lambda: replicas(api) == 4, "four replicas")
    log = replicas_log()
    api.apply("weather", **SPEC | {"autoscaling": SCALED})
    await until(lambda: api.get("horizontalpodautoscaler/weather"), "the autoscaler")
    await operator.settled(api)
    assert replicas(api) == 4
    api.apply("weather", **SPEC | {"autoscaling": SCALED | {"maxReplicas": 5}})
    await until(
        lambda: api.get("horizontalpodautoscaler/weather")["spec"]["maxReplicas"] == 5, "the new bound"
    )
    api.ok("scale", "deployment", "weather", "--replicas=5")  # as an autoscaler does
    api.apply("weather", **SPEC)
    await until(lambda: api.get("horizontalpodautoscaler/weather") is None, "the autoscaler to go")
    await operator.settled(api)
    assert replicas(api) == 5, "nobody says how many, so they stay"
    api.apply("weather", **SPEC | {"replicas": 6})
    await until(lambda: replicas(api) == 6, "the manifest's own number")
    assert await history(api, operator, log) == [4, 5, 6]


async def test_what_a_manifest_asks_for_no_more_is_removed(api: Kubectl, operator: Operator):
    await made(api, autoscaling=SCALED, networkPolicy={})
    optional = ("horizontalpodautoscaler", "poddisruptionbudget", "networkpolicy")
    for kind in optional:
        await until(lambda kind=kind: api.get(f"{kind}/weather"), f"the {kind}")
    api.apply("weather", **SPEC | {"podDisruptionBudget": {"enabled": False}})
    for kind in optional:
        await until(lambda kind=kind: api.get(f"{kind}/weather") is None, f"the {kind} to go")


async def test_a_child_of_an_older_version_is_adopted_or_removed(api: Kubectl, operator: Operator):
    await made(api)
    await operator.settled(api)
    operator.stop()
    owner = api.get("service/weather")["metadata"]["ownerReferences"]
    labels = api.get("service/weather")["metadata"]["labels"]
    old = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "weather-sidecar",
            "namespace": "default",
            "ownerReferences": owner,
            "labels": labels,
        },
        "spec": {"ports": [{"port": 1}]},
    }
    api.ok("create", "-f", "-", stdin=json.dumps(old))
    theirs = old | {"metadata": old["metadata"] | {"name": "theirs", "ownerReferences": []}}
    api.ok("create", "-f", "-", stdin=json.dumps(theirs))
    # An older operator knew nothing of the cause, and made other pods.
    live = api.get("deployment/weather")
    live["spec"]["template"]["metadata"]["annotations"]["made-by"] = "an older one"
    keep = {name: live["metadata"][name] for name in ("name", "namespace", "labels", "ownerReferences")}
    made_before = {"apiVersion": "apps/v1", "kind": "Deployment", "spec": live["spec"]}
    made_before["metadata"] = keep | {"annotations": {"mcpace.dev/hash": "old"}}
    applied = ("apply", "--server-side", "--force-conflicts", "--field-manager=mcpace", "-f", "-")
    api.ok(*applied, stdin=json.dumps(made_before))
    template = api.get("deployment/weather")["spec"]["template"]
    operator.start()
    await until(lambda: api.get("service/weather-sidecar") is None, "what is wanted no more to go")
    await until(
        lambda: "mcpace.dev/cause" in api.get("deployment/weather")["metadata"]["annotations"],
        "the adoption",
    )
    await operator.settled(api)
    assert api.get("service/theirs") is not None
    assert api.get("deployment/weather")["spec"]["template"] == template, "an upgrade restarts no pods"
    api.ok("delete", "service", "theirs")


async def test_what_a_server_left_behind_is_adopted_by_its_successor(api: Kubectl, operator: Operator):
    await made(api, replicas=2, autoscaling=None, networkPolicy={})
    await operator.settled(api)
    before = {what: uid for what, uid in uids(api).items() if what != "McpServer/weather"}
    pods = {pod["metadata"]["uid"] for pod in api.items("pods", "-l", "mcpace.dev/server=weather")}
    api.ok("delete", "mcpserver", "weather", "--cascade=orphan")
    await until(
        lambda: not api.get("deployment/weather")["metadata"].get("ownerReferences"),
        "the children to be orphans",
    )
    api.apply("weather", **SPEC | {"replicas": 2})
    owner = api.get("mcpserver/weather")["metadata"]["uid"]

    def adopted() -> bool:
        kinds = (
            "deployment/weather",
            "service/weather",
            "service/weather-metrics",
            "secret/weather-mcpace",
        )
        found = [api.get(kind)["metadata"].get("ownerReferences") or [{}] for kind in kinds]
        return all(references[0].get("uid") == owner for references in found)

    await until(adopted, "the children to be adopted")
    await until(lambda: api.get("networkpolicy/weather") is None, "the policy that is wanted no more to go")
    await operator.settled(api)
    assert api.conditions()["Ready"][1] != "ChildConflict"
    after = uids(api)
    assert {what: after.get(what) for what in before} == before | {"NetworkPolicy/weather": None}
    assert pods, "the Deployment had pods"


def uids(api: Kubectl) -> dict[str, str]:
    kinds = "mcpservers,secrets,deployments,services,configmaps,serviceaccounts,networkpolicies"
    own = [item for item in api.items(kinds) if item["metadata"]["name"].startswith("weather")]
    return {f"{item['kind']}/{item['metadata']['name']}": item["metadata"]["uid"] for item in own}


async def test_replicas_that_an_older_version_applied_do_not_dip(
    api: Kubectl, operator: Operator, replicas_log
):
    await made(api, replicas=3)
    await until(lambda: replicas(api) == 3, "three replicas")
    await operator.settled(api)
    operator.stop()
    live = api.get("deployment/weather")
    keep = {name: live["metadata"][name] for name in ("name", "namespace", "labels", "ownerReferences")}
    old = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": keep, "spec": live["spec"]}
    api.ok(
        "apply",
        "--server-side",
        "--force-conflicts",
        "--field-manager=mcpace",
        "-f",
        "-",
        stdin=json.dumps(old),
    )
    log = replicas_log()
    operator.start()
    api.apply("weather", **SPEC | {"replicas": 3, "image": "weather:2"})
    await until(
        lambda: api.get("deployment/weather")["spec"]["template"]["spec"]["containers"][0]["image"] == "weather:2",
        "the new image",
    )  # fmt: skip
    assert await history(api, operator, log) == [3]


async def test_an_immutable_field_is_changed_by_making_the_child_anew_around_its_pods(
    api: Kubectl, operator: Operator
):
    await made(api, replicas=1)
    pods = await until(lambda: api.items("pods", "-l", "mcpace.dev/server=weather"), "a pod")
    await operator.settled(api)
    operator.stop()
    live = api.get("deployment/weather")
    api.ok("delete", "deployment", "weather", "--cascade=orphan")
    live["spec"]["selector"]["matchLabels"] |= {"older": "yes"}
    live["spec"]["template"]["metadata"]["labels"] |= {"older": "yes"}
    live["metadata"] = {k: v for k, v in live["metadata"].items() if k not in ("uid", "resourceVersion")}
    live["metadata"]["annotations"] |= {"mcpace.dev/cause": "old", "mcpace.dev/hash": "old"}
    api.ok("create", "-f", "-", stdin=json.dumps(live))
    before = api.get("deployment/weather")["metadata"]["uid"]
    operator.start()
    deployment = await until(
        lambda: (d := api.get("deployment/weather")) and d["metadata"]["uid"] != before and d,
        "the Deployment to be made anew",
    )
    assert deployment["spec"]["selector"]["matchLabels"] == {"mcpace.dev/server": "weather"}
    kept = [p["metadata"]["uid"] for p in api.items("pods", "-l", "mcpace.dev/server=weather")]
    assert pods[0]["metadata"]["uid"] in kept, "the pods go on meanwhile"
    await until(lambda: api.get("mcpserver/weather")["status"]["replicas"] >= 1, "its pods to be counted")


async def test_a_pod_that_the_api_server_finds_invalid_is_said_and_mended_by_the_next_manifest(
    api: Kubectl, operator: Operator
):
    api.apply("weather", **SPEC | {"podTemplate": {"spec": {"dnsPolicy": "Sometimes"}}})
    await until(lambda: api.conditions().get("Ready") == ("False", "ApplyFailed"), "the refusal")
    (ready,) = [c for c in api.get("mcpserver/weather")["status"]["conditions"] if c["type"] == "Ready"]
    assert "dnsPolicy" in ready["message"]
    await operator.settled(api)
    assert operator.log.read_text().count("again in") == 0, (
        "nothing is tried again until the manifest changes"
    )
    api.apply("weather", **SPEC)
    await until(lambda: api.get("deployment/weather"), "the Deployment after all")


def promtool(rules: Any) -> subprocess.CompletedProcess[str]:
    command = [program("promtool"), "check", "rules"]
    return subprocess.run(command, input=yaml.safe_dump(rules), capture_output=True, text=True)


async def test_monitors_come_and_go_with_their_kinds(api: Kubectl, operator: Operator):
    await made(api, rateLimits={})
    await operator.settled(api)
    crds = [f"-f={path}" for path in prometheus_crds()]
    try:
        api.ok("apply", "--server-side", *crds)
        monitor = await until(
            lambda: api.get("servicemonitors.monitoring.coreos.com/weather", missing=True),
            "the ServiceMonitor",
            60,
        )
        assert monitor["spec"]["endpoints"][0]["port"] == "metrics"
        rule = await until(
            lambda: api.get("prometheusrules.monitoring.coreos.com/weather"), "the PrometheusRule", 60
        )
        checked = promtool(rule["spec"])
        assert checked.returncode == 0, checked.stdout + checked.stderr
        assert "rules found" in checked.stdout
        api.ok("delete", "servicemonitors.monitoring.coreos.com", "weather")
        await until(
            lambda: api.get("servicemonitors.monitoring.coreos.com/weather"),
            "the ServiceMonitor to be put back",
            60,
        )
    finally:
        api.ok("delete", *crds)
    await until(lambda: "no optional kinds" in operator.log.read_text(), "the kinds to be missed", 60)
    api.apply("weather", **SPEC | {"replicas": 2})
    await until(lambda: replicas(api) == 2, "the server to be kept all the same")
    assert api.conditions()["Ready"][1] != "ApplyFailed"


async def test_sidecars_reach_each_other_for_as_long_as_sessions_go_on(api: Kubectl, operator: Operator):
    def relayed() -> tuple[list[str], list[Any]]:
        pod = api.get("deployment/weather")["spec"]["template"]["spec"]
        rules = api.get("networkpolicy/weather")["spec"]["ingress"]
        told = [argument for argument in pod["initContainers"][0]["args"] if "--relay-listen" in argument]
        return told, [rule["from"] for rule in rules if {"protocol": "TCP", "port": 18081} in rule["ports"]]

    await made(api, networkPolicy={})
    await operator.settled(api)
    own = [{"podSelector": {"matchLabels": {"mcpace.dev/server": "weather"}}}]
    assert relayed() == (["--relay-listen=*:18081"], [own])
    api.apply("weather", **SPEC, networkPolicy={}, sessions={"continuity": False})
    await until(lambda: relayed() == ([], []), "nobody to be let in any more")
    api.apply("weather", **SPEC, networkPolicy={}, port=18081)
    await until(lambda: relayed()[0] == ["--relay-listen=*:18082"], "the relay to give way to the server")
