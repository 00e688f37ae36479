"""Two mcpaces that see the same servers: one looks after each, the other says so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.kit.operator import Operator
from tests.kit.waiting import until
from tools.cluster.kubectl import Kubectl

SPEC: dict[str, Any] = {"image": "weather:1", "replicas": 1}


@pytest.fixture
async def two(api: Kubectl, tmp_path: Path) -> AsyncIterator[tuple[Operator, Operator]]:
    """Operators of two releases, with keys and sidecars of their own, the first one started."""
    one, other = (
        Operator(
            api, tmp_path / f"{name}.log", MCPACE_INSTANCE=f"{name}/mcpace",
            MCPACE_MASTER_KEY=f"{name}-" * 20, MCPACE_SIDECAR_IMAGE=f"mcpace/sidecar:{name}",
        )
        for name in ("one", "other")
    )  # fmt: skip
    one.start()
    yield one, other
    api.ok("delete", "mcpservers", "--all")
    await until(lambda: not api.items("deployments"), "cleaning up")
    for operator in (one, other):
        operator.stop()


def sidecar(api: Kubectl) -> str:
    return str(api.get("deployment/weather")["spec"]["template"]["spec"]["initContainers"][0]["image"])


async def test_the_second_of_two_mcpaces_leaves_a_server_alone_says_so_and_can_be_given_it(
    api: Kubectl, two: tuple[Operator, Operator]
):
    one, other = two
    api.apply("weather", **SPEC)
    await until(lambda: api.get("deployment/weather"), "the Deployment")
    before = await one.settled(api)
    assert api.get("mcpserver/weather")["status"]["managedBy"] == "one/mcpace"
    other.start()
    await until(
        lambda: api.conditions().get("Managed") == ("False", "ManagedByAnother"), "the other one to say so"
    )
    after = await one.settled(api)
    assert {what for what in before if before[what] != after[what]} == {"McpServer/weather"}
    assert sidecar(api) == "mcpace/sidecar:one"
    api.apply("weather", **SPEC | {"replicas": 2})
    await until(lambda: api.get("deployment/weather")["spec"]["replicas"] == 2, "the first to go on")
    await one.settled(api)
    assert api.conditions()["Managed"] == ("False", "ManagedByAnother"), "it is not taken back by the first"

    api.ok("annotate", "mcpserver", "weather", "mcpace.dev/instance=other/mcpace")
    await until(lambda: sidecar(api) == "mcpace/sidecar:other", "the other to take it over")
    await until(
        lambda: api.get("mcpserver/weather")["status"]["managedBy"] == "other/mcpace", "it to be said"
    )
    await one.settled(api)
    assert sidecar(api) == "mcpace/sidecar:other"
    told = {c["type"]: c["message"] for c in api.get("mcpserver/weather")["status"]["conditions"]}
    assert "The mcpace other/mcpace looks after this server" in told["Managed"], "now the first one says so"
