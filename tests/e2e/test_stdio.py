"""Servers that speak over standard input and output, in pods of ordinary images and of one without a libc."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.e2e.cluster import Cluster, until

IMAGE = "mcpace/test-stdio:1"
STATIC = "mcpace/test-static:1"

Served = Callable[..., list[str]]


@pytest.fixture
def served(cluster: Cluster) -> Iterator[Served]:
    """Apply a server of stdio, wait until it is ready, and return its pods' data ports."""
    made = []

    def serve(
        name: str, command: list[str], replicas: int = 2, image: str = IMAGE, **spec: Any
    ) -> list[str]:
        made.append(name)
        cluster.apply(name, image=image, transport="stdio", command=command, replicas=replicas, **spec)
        cluster.ready(name)
        urls = cluster.urls(name)
        assert len(urls) == replicas
        return urls

    yield serve
    for name in made:
        cluster.ok("delete", "mcpserver", name)


@pytest.mark.parametrize(
    ("name", "command", "tool", "arguments"),
    [
        ("clock", ["mcp-server-time"], "get_current_time", {"timezone": "Europe/Oslo"}),
        ("log", ["mcp-server-git", "--repository", "/opt/repository"], "git_log", {"repo_path": "/opt/repository"}),
        ("everything", ["mcp-server-everything", "stdio"], "echo", {"message": "hello"}),
    ],
)  # fmt: skip
def test_a_server_of_stdio_answers_from_both_of_its_pods(
    cluster: Cluster, served: Served, name: str, command: list[str], tool: str, arguments: dict[str, str]
):
    urls = served(name, command)
    outcomes = cluster.ask(urls=urls, calls=40, clients=2, tool=tool, arguments=arguments)
    assert len(outcomes) == 80
    assert not [outcome for outcome in outcomes if not outcome["ok"]]
    until(
        lambda: "serverInfo" in cluster.get(f"mcpserver/{name}")["status"], "the server to introduce itself"
    )


@pytest.mark.timeout(400)
def test_a_rollout_under_sessions_of_processes_fails_no_call(cluster: Cluster, served: Served):
    repository = "/opt/repository"
    served("log", ["mcp-server-git", "--repository", repository])
    before = {pod["metadata"]["name"] for pod in cluster.pods("log")}
    cluster.ok("exec", "client", "--", "rm", "-f", "/tmp/enough")
    asking = cluster.ask_meanwhile(
        urls=["http://log.default.svc/mcp"], clients=8, seconds=300, until="/tmp/enough", pause=0.5,
        tool="git_log", arguments={"repo_path": repository}, mode="legacy", connections="each call",
    )  # fmt: skip
    cluster.ok("rollout", "restart", "deployment/log")
    until(
        lambda: not before & {pod["metadata"]["name"] for pod in cluster.items("pods", "-l", "mcpace.dev/server=log")},
        "the old pods to end", 200, asking,
    )  # fmt: skip
    cluster.ready("log")
    cluster.ok("exec", "client", "--", "touch", "/tmp/enough")
    outcomes = asking.result(60)
    failed = [outcome for outcome in outcomes if not outcome["ok"]]
    assert len({outcome["client"] for outcome in outcomes}) == 8
    assert not failed, f"{len(failed)} of {len(outcomes)} calls failed: {failed[:3]}"


def test_an_image_without_a_libc_and_a_shell_is_enough(cluster: Cluster, served: Served):
    urls = served("static", ["/stdio"], image=STATIC)
    outcomes = cluster.ask(urls=urls, calls=6, tool="count", mode="legacy")
    counted = sorted(outcome["result"]["calls"] for outcome in outcomes)
    assert counted == [1, 1, 2, 2, 3, 3], "a session has a process of its own"


def test_a_process_gets_the_containers_environment_and_nothing_more(cluster: Cluster, served: Served):
    (url,) = served(
        "told", ["sh", "-c", "env >&2; exec mcp-server-time"], replicas=1, env=[{"name": "A", "value": "b"}]
    )
    assert cluster.ask(urls=[url], calls=1, tool="get_current_time", arguments={"timezone": "UTC"})[0]["ok"]
    log = cluster.ok("logs", "deploy/told", "-c", "server").splitlines()
    assert "A=b" in log, "what a process writes to its standard error is the container's log"
    assert not [line for line in log if line.startswith(("TCP", "PROTO="))]


def test_a_server_that_keeps_a_file_keeps_every_write_with_one_shared_process(
    cluster: Cluster, served: Served
):
    (url,) = served(
        "memory", ["mcp-server-memory"], replicas=1, stdio={"processes": "shared"},
        env=[{"name": "MEMORY_FILE_PATH", "value": "/data/memory.json"}],
        volumes=[{"name": "data", "emptyDir": {}}], volumeMounts=[{"name": "data", "mountPath": "/data"}],
    )  # fmt: skip
    outcomes = cluster.ask(
        urls=[url], calls=25, clients=4, tool="create_entities",
        arguments={"entities": [{"name": "NUMBER", "entityType": "a", "observations": []}]},
    )  # fmt: skip
    assert all(outcome["ok"] for outcome in outcomes)
    (pod,) = cluster.pods("memory")
    kept = cluster.ok("exec", pod["metadata"]["name"], "-c", "server", "--", "cat", "/data/memory.json")
    assert len(outcomes) == 100
    assert len({line for line in kept.splitlines() if line}) == 100


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["sh", "-c", "exit 3"], "ended"),
        (["sh", "-c", "echo hello; exec sleep 100"], "standard output"),
        (["no-such-program"], "ended"),
    ],
)
def test_the_status_says_what_a_server_of_stdio_got_wrong(cluster: Cluster, command: list[str], words: str):
    cluster.apply("wrong", image=IMAGE, transport="stdio", command=command)
    try:
        until(
            lambda: cluster.conditions("wrong").get("Ready", ("", ""))[1] == "ServerDoesNotAnswer",
            "the status to say so",
            120,
        )
        said = next(
            c["message"]
            for c in cluster.get("mcpserver/wrong")["status"]["conditions"]
            if c["type"] == "Ready"
        )
        assert words in said, said
    finally:
        cluster.ok("delete", "mcpserver", "wrong")


def test_the_end_of_a_pod_reaches_every_process(cluster: Cluster, served: Served):
    (url,) = served("trapped", ["mcp-server-time"], replicas=1)
    assert cluster.ask(urls=[url], calls=1, tool="get_current_time", arguments={"timezone": "UTC"})[0]["ok"]
    (pod,) = cluster.pods("trapped")
    began = time.monotonic()
    cluster.ok("delete", "pod", pod["metadata"]["name"], "--wait=false")
    until(lambda: cluster.run("get", "pod", pod["metadata"]["name"]).returncode != 0, "the pod to end", 60)
    assert time.monotonic() - began < 25, "its processes did not end with it"
