"""Servers that do not answer: the condition says why, within half a minute, from the pods' own words."""

from __future__ import annotations

from typing import Any

import pytest
from tests.e2e.conftest import Cluster, until

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


def test_each_says_what_is_wrong_within_half_a_minute_and_the_others_run(cluster: Cluster, weather: str):
    for name, spec, _, _ in CASES:
        cluster.apply(f"bad-{name}", **spec)
    said: dict[str, tuple[str, str]] = {}

    def all_said() -> bool:
        for name, _, reason, words in CASES:
            status = cluster.get(f"mcpserver/bad-{name}").get("status") or {}
            for condition in status.get("conditions") or []:
                if condition["type"] == "Ready":
                    said[name] = (condition["reason"], condition["message"])
            if name not in said or said[name][0] != reason or words not in said[name][1]:
                return False
        return True

    try:
        until(all_said, "every trouble to be said", 30)
    except AssertionError:
        wrong = {
            n: said.get(n) for n, _, r, w in CASES if said.get(n, ("", ""))[0] != r or w not in said[n][1]
        }
        pytest.fail(f"{wrong}\n{cluster.explain()}")
    (outcome,) = cluster.ask(urls=[weather], calls=1, tool="get-weather", arguments={"city": "Oslo"})
    assert outcome["ok"] or outcome["code"] == 42900


def test_once_mended_all_is_well(cluster: Cluster, weather: str):
    cluster.apply("bad-port", image=IMAGE, port=8000)
    cluster.ready("bad-port")
    for name, *_ in CASES:
        cluster.ok("delete", "mcpserver", f"bad-{name}")
