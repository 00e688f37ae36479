"""Sessions of official clients over real pods: none notices a rollout, a scale-in or the loss of a pod."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import pytest
from tests.e2e.cluster import Cluster, until

IMAGE = "mcpace/test-stdio:1"  # it has version 1 of the official SDK
SCRIPT = "tests/clients/session_server.py"
SESSIONS = int(os.environ.get("MCPACE_SESSIONS", "50"))
"""Of a rollout; 1000 take a machine of more than two cores."""
ENDED = 30
"""Seconds in which a pod ends whose sessions are called all the while; its drain may last 60."""
URL = "http://held.default.svc/mcp"

Held = Callable[..., None]


@pytest.fixture(scope="module")
def held(cluster: Cluster) -> Iterator[Held]:
    """A server whose sessions count in its process's memory."""
    cluster.ok("create", "configmap", "held-server", f"--from-file=server.py={SCRIPT}")

    def serve(**spec: Any) -> None:
        cluster.apply(
            "held", image=IMAGE, command=["python", "/server/server.py"], env=[{"name": "PORT", "value": "8000"}],
            volumes=[{"name": "server", "configMap": {"name": "held-server"}}],
            volumeMounts=[{"name": "server", "mountPath": "/server"}],
            networkPolicy={}, **spec,
        )  # fmt: skip
        replicas = spec.get("replicas")
        until(lambda: replicas is None or len(cluster.pods("held")) == replicas, f"{replicas} pods", 90)
        cluster.ready("held")

    yield serve
    cluster.run("delete", "mcpserver", "held")
    cluster.run("delete", "configmap", "held-server")


def counted(outcomes: list[dict[str, Any]]) -> dict[int, list[int]]:
    """What each client's session counted; it fails where a call did."""
    failed = [outcome for outcome in outcomes if not outcome["ok"]]
    assert not failed, f"{len(failed)} of {len(outcomes)} calls failed: {failed[:3]}"
    counts: dict[int, list[int]] = {}
    for outcome in outcomes:
        counts.setdefault(outcome["client"], []).append(int(outcome["result"]["result"]))
    return counts


def beginnings(counts: list[int]) -> int:
    """How often a session began; it fails where a call ran twice, or its session had another beside it."""
    begun = [at for at, count in enumerate(counts) if count == 1]
    lasting = [later - at for at, later in zip(begun, [*begun[1:], len(counts)], strict=True)]
    assert counts == [count + 1 for calls in lasting for count in range(calls)], counts
    return len(begun)


@contextmanager
def called(cluster: Cluster, clients: int, pause: float) -> Iterator[Future[list[dict[str, Any]]]]:
    """Sessions that are called all the while, each call by a connection of its own."""
    cluster.ok("exec", "client", "--", "rm", "-f", "/tmp/enough")
    asking = cluster.ask_meanwhile(
        urls=[URL], clients=clients, seconds=500, until="/tmp/enough", tool="count", mode="legacy", pause=pause,
        connections="each call",
    )  # fmt: skip
    try:
        until(lambda: sessions(cluster) >= clients, f"{clients} sessions", 60 + clients / 4, asking)
        yield asking
    finally:
        cluster.ok("exec", "client", "--", "touch", "/tmp/enough")
        asking.exception(60 + clients / 4)


def sessions(cluster: Cluster) -> float:
    """How many have called."""
    sample = 'mcp_tool_calls_total{status="success",tool="count"}'
    return sum(cluster.metrics(pod).get(sample, 0) for pod in cluster.pods("held"))


def names(cluster: Cluster) -> set[str]:
    return {pod["metadata"]["name"] for pod in cluster.pods("held")}


def gone(cluster: Cluster, pods: set[str]) -> bool:
    there = cluster.items("pods", "-l", "mcpace.dev/server=held")
    return not pods & {pod["metadata"]["name"] for pod in there}


@pytest.mark.timeout(600)
def test_a_rollout_of_three_pods_under_sessions_fails_no_call(cluster: Cluster, weather: str, held: Held):
    held(replicas=3)
    before = names(cluster)
    with called(cluster, SESSIONS, SESSIONS / 50) as asking:
        cluster.ok("rollout", "restart", "deployment/held")
        until(
            lambda: not names(cluster) & before, "the last of the old pods to be told to end", 240, asking
        )
        told = time.monotonic()
        until(lambda: gone(cluster, before), "the old pods to end", 100, asking)
        took = time.monotonic() - told
        cluster.ready("held")
    sessions_begun = [beginnings(counts) for counts in counted(asking.result()).values()]
    assert len(sessions_begun) == SESSIONS
    assert max(sessions_begun) > 1, "no session was moved: what was tested?"
    assert max(sessions_begun) <= 4, "a session began anew more often than there were pods to lose"
    assert took < ENDED, f"the last pod did not end for {took:.0f} s, while its sessions were called"


@pytest.mark.timeout(600)
def test_pods_come_and_go_under_sessions(cluster: Cluster, weather: str, held: Held):
    held()  # no `replicas`: whatever scales is left alone, as an autoscaler is
    cluster.ok("scale", "deployment/held", "--replicas=1")
    until(lambda: len(cluster.pods("held")) == 1, "one pod", 90)
    cluster.ready("held")
    with called(cluster, 20, 0.5) as asking:
        for replicas in (3, 1, 2):
            before = names(cluster)
            cluster.ok("scale", "deployment/held", f"--replicas={replicas}")
            until(lambda: len(cluster.pods("held")) == replicas, f"{replicas} pods", 90, asking)  # noqa: B023
            cluster.ready("held")
            until(lambda: gone(cluster, before - names(cluster)), "the others to end", 90, asking)  # noqa: B023
    assert max(beginnings(counts) for counts in counted(asking.result()).values()) <= 3


def test_a_pod_that_is_deleted_by_force_ends_no_session(cluster: Cluster, weather: str, held: Held):
    held(replicas=3)
    clients = 24
    cluster.ok("exec", "client", "--", "rm", "-f", "/tmp/half.reached", "/tmp/half")
    asking = cluster.ask_meanwhile(
        urls=[URL], clients=clients, calls=8, tool="count", mode="legacy", halfway="/tmp/half",
        connections="each call",
    )  # fmt: skip
    until(
        lambda: cluster.run("exec", "client", "--", "test", "-e", "/tmp/half.reached").returncode == 0,
        "every session to be halfway", 60, asking,
    )  # fmt: skip
    lost = min(names(cluster))
    cluster.ok("delete", "pod", lost, "--force", "--grace-period=0")
    until(lambda: lost not in names(cluster) and len(names(cluster)) == 3, "another pod", 60, asking)
    cluster.ready("held")
    cluster.ok("exec", "client", "--", "touch", "/tmp/half")
    begun = [beginnings(counts) for counts in counted(asking.result(120)).values()]
    assert len(begun) == clients
    assert set(begun) == {1, 2}, "sessions of the pod that was lost begin again, the others go on"


def test_the_relay_port_is_the_pods_own_and_takes_nobody_without_their_certificate(
    cluster: Cluster, weather: str, held: Held
):
    held(replicas=2)
    ports = [port["port"] for port in cluster.get("service/held")["spec"]["ports"]]
    assert 18081 not in ports
    rules = cluster.get("networkpolicy/held")["spec"]["ingress"]
    (rule,) = [rule for rule in rules if any(port["port"] == 18081 for port in rule["ports"])]
    assert rule["from"] == [{"podSelector": {"matchLabels": {"mcpace.dev/server": "held"}}}]
    address = cluster.pods("held")[0]["status"]["podIP"]
    script = f"""
import socket, ssl
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
try:
    with context.wrap_socket(socket.create_connection(({address!r}, 18081), 5), server_hostname="a") as opened:
        opened.sendall(b"POST /mcp HTTP/1.1\\r\\nHost: a\\r\\nContent-Length: 0\\r\\n\\r\\n")
        print(opened.recv(100) or "closed")
except (ssl.SSLError, ConnectionError):
    print("refused")
"""
    said = cluster.ok("exec", "client", "--", "/opt/weather/bin/python", "-c", script).strip()
    assert said in ("refused", "closed")
