"""Servers that do not answer: the condition says why, from the pods' own words."""

from __future__ import annotations

from typing import Any

import pytest
from tests.e2e.cluster import Cluster, until

IMAGE = "mcpace/example-weather:0.1.0"
PYTHON = "/opt/weather/bin/python"
CASES: list[tuple[str, dict[str, Any], str, str]] = [
    ("no-image", {"image": "mcpace/no-such-image:1", "imagePullPolicy": "Never"}, "ImageNotPulled", "Mend `image`"),
    (
        "crashes",
        {"image": IMAGE, "command": [PYTHON, "-c", "raise SystemExit('the KEY is missing')"]},
        "Crashes",
        "exit code 1: the KEY is missing",
    ),
    ("no-command", {"image": IMAGE, "command": ["/no/such/program"]}, "ContainerNotStarted", "/no/such/program"),
    (
        "mute",
        {"image": IMAGE, "command": [PYTHON, "-m", "http.server", "8000", "-d", "/opt/weather"]},
        "ServerDoesNotAnswer",
        "No usual path of its answers MCP",
    ),
    ("path", {"image": IMAGE, "path": "/api"}, "ServerDoesNotAnswer", "write `path: /mcp`"),
    (
        "port",
        {"image": IMAGE, "port": 9000},
        "ServerDoesNotAnswer",
        "write `port: 8000`",
    ),
    (
        "transport",
        {"image": IMAGE, "transport": "sse"},
        "ServerDoesNotAnswer",
        "write `transport: streamable-http` and `path: /mcp`",
    ),
    (
        "greedy",
        {"image": IMAGE, "resources": {"requests": {"cpu": 1000}}},
        "Unschedulable",
        "Insufficient cpu",
    ),
    (
        "hungry",
        {
            "image": IMAGE,
            "command": [PYTHON, "-c", "x = b'x' * (1 << 30)"],
            "resources": {"limits": {"memory": "64Mi"}},
        },
        "OutOfMemory",
        "Raise `resources.limits.memory`",
    ),
]  # fmt: skip


def test_each_says_what_is_wrong_and_the_others_run(cluster: Cluster, weather: str):
    for name, spec, _, _ in CASES:
        cluster.apply(f"bad-{name}", **spec)
    said: dict[str, tuple[str, str]] = {}

    def wrong() -> dict[str, tuple[str, str] | None]:
        """Server -> what its condition says instead."""
        for server in cluster.items("mcpservers"):
            for condition in (server.get("status") or {}).get("conditions") or []:
                if condition["type"] == "Ready":
                    said[server["metadata"]["name"]] = (condition["reason"], condition["message"])
        told = {name: said.get(f"bad-{name}") for name, *_ in CASES}
        return {
            name: told[name]
            for name, _, reason, words in CASES
            if told[name] is None or told[name][0] != reason or words not in told[name][1]
        }

    try:
        until(
            lambda: not wrong(), "every trouble to be said", 90
        )  # of nine pods that start at once, and have 20 s for it
    except AssertionError:
        pytest.fail(f"{wrong()}\n{cluster.explain()}")
    (outcome,) = cluster.ask(urls=[weather], calls=1, tool="get-weather", arguments={"city": "Oslo"})
    assert outcome["ok"] or outcome["code"] == 42900


def test_once_mended_all_is_well(cluster: Cluster, weather: str):
    cluster.apply("bad-port", image=IMAGE, port=8000)
    cluster.ready("bad-port")
    for name, *_ in CASES:
        cluster.ok("delete", "mcpserver", f"bad-{name}")
