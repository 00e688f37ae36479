"""Operators behind a proxy that fails."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from tests.kit.faults import FaultyProxy
from tests.kit.operator import Operator
from tests.kit.redis import RedisServer
from tests.kit.waiting import STARTING, until
from tools.cluster.controlplane import ControlPlane
from tools.cluster.kubectl import Kubectl


@pytest.fixture
def proxy(plane: ControlPlane, api: Kubectl, tmp_path: Path) -> Iterator[FaultyProxy]:
    proxy = FaultyProxy(plane, tmp_path)
    proxy.start()
    yield proxy
    proxy.fault = lambda _: None
    proxy.stop()
    gc.collect()  # so that what a killed operator's connections left is told here, where it is expected


@pytest.fixture
async def begin(
    proxy: FaultyProxy, api: Kubectl, tmp_path: Path, redis_server: RedisServer
) -> AsyncIterator[Callable[..., Operator]]:
    """Starts operators behind the proxy."""
    running: list[Operator] = []

    def start(name: str = "operator", **environment: str) -> Operator:
        urls = {"MCPACE_LIMITS_URL": redis_server.url, "MCPACE_CACHE_URL": redis_server.url}
        faulty = {"KUBECONFIG": str(proxy.kubeconfig)}
        operator = Operator(api, tmp_path / f"{name}.log", **urls | faulty | environment)
        operator.start()
        running.append(operator)
        return operator

    yield start
    proxy.fault = lambda _: None
    api.ok("delete", "mcpservers", "--all", "-A")
    await until(lambda: not api.items("deployments", "-A"), "cleaning up", STARTING)
    for operator in running:
        operator.kill()
