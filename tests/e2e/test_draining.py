"""How a pod ends: the kubelet tells its server when the last call has ended, or the time is up."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.e2e.cluster import Cluster, until

from mcpace_operator.children.deployment import GRACE

IMAGE = "mcpace/test-queries:1"
IN_FLIGHT = "mcpace_calls_in_flight"
LONGER = 15.0
"""Seconds: more than Services need to forget a pod."""
DRAIN = 12


@pytest.fixture
def patient(cluster: Cluster) -> Iterator[Any]:
    """A server of one pod, and that pod."""
    cluster.apply("patient", image=IMAGE, drainTimeout=f"{DRAIN}s")
    cluster.ready("patient")
    (pod,) = cluster.pods("patient")
    yield pod
    cluster.ok("delete", "mcpserver", "patient")


def ended(cluster: Cluster, pod: Any) -> bool:
    return cluster.run("get", "pod", pod["metadata"]["name"]).returncode != 0


def told_to_end(cluster: Cluster, pod: Any, seconds: float) -> tuple[dict[str, Any], float]:
    """Delete a pod while a call of so many seconds is in flight; its outcome, and when the pod was deleted."""
    url = f"http://{pod['status']['podIP']}:18080/mcp"
    asking = cluster.ask_meanwhile(urls=[url], calls=1, tool="wait", arguments={"seconds": seconds})
    until(lambda: cluster.metrics(pod)[IN_FLIGHT] == 1, "the call to be in flight", calls=asking)
    cluster.ok("delete", "pod", pod["metadata"]["name"], "--wait=false")
    deleted = time.time()
    (outcome,) = asking.result(100)
    return outcome, deleted


def test_a_call_that_takes_longer_than_services_need_is_answered(cluster: Cluster, weather: str):
    cluster.apply("patient", image=IMAGE)
    cluster.ready("patient")
    (pod,) = cluster.pods("patient")
    outcome, deleted = told_to_end(cluster, pod, LONGER)
    assert outcome["ok"], outcome
    assert outcome["at"] + outcome["ms"] / 1000 > deleted + 9, "it ended before it could be cut"
    until(lambda: ended(cluster, pod), "the pod to end when its call has", 30)
    cluster.ok("delete", "mcpserver", "patient")


def test_a_call_that_takes_longer_than_the_drain_may_is_told_so(cluster: Cluster, patient: Any):
    outcome, deleted = told_to_end(cluster, patient, 90.0)
    assert not outcome["ok"]
    assert outcome["code"] < 0 or outcome["code"] >= 50000, f"words of ours or of the server's: {outcome}"
    cut = outcome["at"] + outcome["ms"] / 1000 - deleted
    assert DRAIN - 2 < cut < DRAIN + GRACE + 5, f"the call was cut after {cut:.1f} s: {outcome}"


def test_an_idle_pod_ends_when_services_have_forgotten_it(cluster: Cluster, patient: Any):
    began = time.monotonic()
    cluster.ok("delete", "pod", patient["metadata"]["name"], "--wait=false")
    until(lambda: ended(cluster, patient), "the pod to end", 30)
    took = time.monotonic() - began
    assert took > 7, f"its server was told after {took:.1f} s, while Services still sent it calls"


def test_whoever_asks_whether_a_pod_is_drained_changes_nothing(cluster: Cluster, weather: str):
    pod = cluster.pods("weather")[0]
    url = f"http://{pod['status']['podIP']}:18090/drained"
    script = f"import urllib.request; print(urllib.request.urlopen({url!r}).read().decode())"
    said = cluster.ok("exec", "client", "--", "/opt/weather/bin/python", "-c", script)
    assert json.loads(said) == {"drained": False}
    ready = [c["status"] for c in pod["status"]["conditions"] if c["type"] == "Ready"]
    assert ready == ["True"]
    (outcome,) = cluster.ask(
        urls=[url.replace(":18090/drained", ":18080/mcp")],
        calls=1,
        tool="forecast",
        arguments={"city": "Oslo"},
    )
    assert outcome["ok"], outcome
