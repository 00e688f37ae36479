"""What tests are given: real servers, each ended after the test."""

from __future__ import annotations

import os
import signal
import zlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from tests.kit.collector import Collector
from tests.kit.helm import Helm
from tests.kit.operator import Operator
from tests.kit.processes import Serve, serving_lines
from tests.kit.programs import ROOT, serving, weather_server
from tests.kit.redis import RedisServer
from tests.kit.sidecars import Start, sidecars
from tests.kit.upstream import RESULT, Scripted, json_answer
from tests.kit.waiting import STARTING, until
from tools.cluster import images
from tools.cluster.controlplane import ControlPlane
from tools.cluster.kubectl import Kubectl
from tools.packages.install import modules, node
from tools.ports import free_port

# In the background, or under nohup, all that tests start would ignore these.
for _number, _handler in (
    (signal.SIGHUP, signal.SIG_DFL),
    (signal.SIGQUIT, signal.SIG_DFL),
    (signal.SIGINT, signal.default_int_handler),
):
    signal.signal(_number, _handler)
settings.register_profile("mcpace", parent=settings(), deadline=None)  # a busy machine fails no test
settings.load_profile("mcpace")


@pytest.fixture(scope="session", autouse=True)
def _state(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What `mcpace run` keeps for its user goes with the tests."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def weather() -> Iterator[int]:
    """The port of the weather example, a real MCP server."""
    with weather_server() as port:
        yield port


@pytest.fixture
async def scripted() -> AsyncIterator[Scripted]:
    server = Scripted()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts sidecars: an upstream port, a configuration, options of Options."""
    async with sidecars() as begin:
        yield begin


@pytest.fixture
def serve_lines(start: Start) -> Serve:
    """A sidecar in front of a server of stdio that misbehaves."""
    return serving_lines(start)


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


@pytest.fixture
async def collector(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collector]:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    server = Collector()
    server.answer = lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
def traces(collector: Collector):
    return {"monitoring": {"traces": {"endpoint": f"http://127.0.0.1:{collector.port}"}}}


@pytest.fixture
async def everything() -> AsyncIterator[int]:
    """A server nobody here wrote, speaking the pair."""
    port = free_port()
    server = modules() / "@modelcontextprotocol/server-everything/dist/index.js"
    async with serving(port, node(), server, "sse"):
        yield port


@pytest.fixture
def echo(scripted: Scripted) -> Scripted:
    """A server that answers every call at once."""
    scripted.answer = lambda _: json_answer(RESULT)
    return scripted
