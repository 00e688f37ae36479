"""One control plane for all tests of the operator, and an operator on it."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.cluster import images
from tests.cluster.controlplane import ControlPlane
from tests.cluster.helm import Helm
from tests.cluster.kubectl import Kubectl
from tests.cluster.operator import Operator
from tests.conftest import ROOT, STARTING, RedisServer, until


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    plane = ControlPlane(tmp_path_factory.mktemp("plane"))
    try:
        plane.start()
        yield plane
    finally:
        plane.stop()


@pytest.fixture(scope="session")
def api(plane: ControlPlane) -> Kubectl:
    api = Kubectl(plane.kubeconfig, plane.folder / "cache")
    api.ok("apply", "-f", str(ROOT / "crds/mcpservers.yaml"))
    # Refused as long as the CRD has no conditions at all.
    api.ok("wait", "--for=jsonpath={.status.conditions}", "crd/mcpservers.mcpace.dev", "--timeout=30s")
    api.ok("wait", "--for=condition=Established", "crd/mcpservers.mcpace.dev", "--timeout=30s")
    return api


@pytest.fixture
async def operator(api: Kubectl, tmp_path: Path, redis_server: RedisServer) -> AsyncIterator[Operator]:
    urls = {"MCPACE_LIMITS_URL": redis_server.url, "MCPACE_CACHE_URL": redis_server.url}
    operator = Operator(api, tmp_path / "operator.log", **urls)
    operator.start()
    try:
        yield operator
        api.ok("delete", "mcpservers", "--all", "-A")
        await until(lambda: not api.items("deployments", "-A"), "cleaning up", STARTING)
    finally:
        operator.stop()


@pytest.fixture
def helm(api: Kubectl, request: pytest.FixtureRequest) -> Iterator[Helm]:
    helm = Helm(api, f"ns-{zlib.crc32(request.node.name.encode()):x}")
    yield helm
    helm.end()


@pytest.fixture
def first() -> Path:
    """The source of the first version."""
    source = images.first()
    if source is None:
        pytest.skip("the first version is not in this clone")
    return source
