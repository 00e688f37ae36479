"""Every panel of every dashboard has data: a real Prometheus scrapes real sidecars, an operator, and what Redis is told."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.kit.dashboards import Asked, asked
from tests.kit.operator import Operator
from tests.kit.processes import Serve, session
from tests.kit.prometheus import Prometheus
from tests.kit.redis import RedisServer
from tests.kit.rules import of_a_release, of_a_server
from tests.kit.sidecars import Running, Start
from tests.kit.upstream import Heard, Scripted, json_answer
from tests.kit.waiting import until
from tools.cluster.kubectl import Kubectl
from tools.ports import free_port

from mcpace_sidecar.server import usage

POD = "weather-5d4f8c7b9-x2k4p"
RECORDED = {
    "kube-state-metrics": (
        "it watches the pods of a whole cluster, of which there are none here; written as its documentation lists it",
        f"""\
# TYPE kube_pod_container_status_restarts_total counter
kube_pod_container_status_restarts_total{{namespace="ns",pod="{POD}",uid="1",container="server"}} 2
kube_pod_container_status_restarts_total{{namespace="ns",pod="{POD}",uid="1",container="mcpace"}} 0
# TYPE kube_horizontalpodautoscaler_spec_max_replicas gauge
kube_horizontalpodautoscaler_spec_max_replicas{{namespace="ns",horizontalpodautoscaler="weather"}} 20
# TYPE kube_horizontalpodautoscaler_spec_min_replicas gauge
kube_horizontalpodautoscaler_spec_min_replicas{{namespace="ns",horizontalpodautoscaler="weather"}} 2
# TYPE kube_horizontalpodautoscaler_status_current_replicas gauge
kube_horizontalpodautoscaler_status_current_replicas{{namespace="ns",horizontalpodautoscaler="weather"}} 2
# TYPE kube_horizontalpodautoscaler_status_desired_replicas gauge
kube_horizontalpodautoscaler_status_desired_replicas{{namespace="ns",horizontalpodautoscaler="weather"}} 3
""",
    ),
    "redis_exporter": (
        "it is a program of others, that mcpace does not bring; made of what the test's Redis says in INFO",
        """\
# TYPE redis_commands_processed_total counter
redis_commands_processed_total {total_commands_processed}
# TYPE redis_connected_clients gauge
redis_connected_clients {connected_clients}
# TYPE redis_evicted_keys_total counter
redis_evicted_keys_total {evicted_keys}
# TYPE redis_memory_max_bytes gauge
redis_memory_max_bytes {maxmemory}
# TYPE redis_memory_used_bytes gauge
redis_memory_used_bytes {used_memory}
""",
    ),
}
"""What is not to be had here -> why not, and what it would say of the metrics that panels read.

The files of the server's cgroup are written by the test too: a container would have them.
"""
CONFIG: dict[str, Any] = {
    "cache": {"tools": [{"name": "get", "ttl": "1h", "scope": "shared"}, {"name": "mine", "ttl": "1h"}]},
    "rateLimits": {
        "tiers": [{"name": "free", "requestsPerMinute": 10_000}],
        "tools": [
            {"name": "seldom", "requestsPerMinute": 1},
            *({"name": name} for name in ("bad", "hold", "wrong")),
        ],
    },
    "concurrency": {"circuitBreaker": {"failures": 3, "openFor": "1h"}},
}
ANSWER = b'{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"snow"}],"isError":false}}'
WRONG = b'{"jsonrpc":"2.0","id":1,"result":{"content":[],"isError":true}}'


class Traffic:
    """Calls of every kind, of which some fail, some are refused, and one is in flight as long as wanted."""

    def __init__(self, server: Scripted, sidecar: Running, door: int) -> None:
        self._sidecar = sidecar
        self._door = door
        self._go = asyncio.Event()
        server.answer = self._answer
        self._held = asyncio.ensure_future(sidecar.begin("hold"))

    def _answer(self, heard: Heard) -> bytes | AsyncIterator[bytes]:
        if b'"hold"' in heard.body:
            return self._hold()
        if b'"broken"' in heard.body:
            heard.writer.close()
            return b""
        if b'"bad"' in heard.body:
            return json_answer(b'"oops"', b"500 Oops")
        return json_answer(WRONG if b'"wrong"' in heard.body else ANSWER)

    async def _hold(self) -> AsyncIterator[bytes]:
        await self._go.wait()
        yield json_answer(ANSWER)

    async def flow(self, number: int) -> None:
        """Thirty calls whose result is new, ninety whose result is known, and some of each other kind."""
        for each in (*range(30), *[0] * 90):
            await self._sidecar.call("get", {"flow": number, "number": each})
        for tool in ("bad", "wrong", "seldom", "mine"):
            for _ in range(4):
                await self._sidecar.call(tool)
        await self._sidecar.call("broken")
        await self._sidecar.raw(b"NONSENSE\r\n\r\n", end=False)
        await self._sidecar.raw(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", port=self._door)

    async def end(self) -> None:
        self._go.set()
        reader, writer = await self._held
        await reader.readuntil(b"\r\n\r\n")
        writer.close()


async def told(text: Callable[[], str]) -> asyncio.Server:
    """A server that says this to whoever asks."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = text().encode()
        head = (
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: %d\r\n"
            % len(body)
        )
        writer.write(head + b"Connection: close\r\n\r\n" + body)
        await writer.drain()
        writer.close()

    return await asyncio.start_server(say, "127.0.0.1", 0)


def scrape(job: str, port: int, **labels: str) -> dict[str, Any]:
    """A target, with the labels that its ServiceMonitor would give it."""
    target = {"targets": [f"127.0.0.1:{port}"], "labels": labels}
    return {"job_name": job, "honor_labels": True, "static_configs": [target]}


def variables(each: Asked) -> dict[str, str]:
    """What is chosen at the top of its dashboard."""
    if each.dashboard == "mcpace-operator":
        return {"namespace": "sys"}
    if each.dashboard != "mcpace-server":
        return {"namespace": ".*", "server": ".*"}
    return {"namespace": "ns", "server": "lines" if "mcpace_stdio" in each.query else "weather"}


def shown(each: Asked, prometheus: Prometheus) -> list[tuple[dict[str, str], float]]:
    """The series of a query that a panel would draw now."""
    found = prometheus.result(each.filled(**variables(each)))
    series = [(one["metric"], float(one["value"][1])) for one in found]
    return [(labels, value) for labels, value in series if math.isfinite(value)]


@pytest.fixture
async def others(redis_server: RedisServer) -> AsyncIterator[dict[str, int]]:
    """The ports of what is recorded."""
    (_, kubernetes), (_, exporter) = RECORDED.values()
    with redis_server.client() as redis:
        servers = [
            await told(lambda: kubernetes),
            await told(lambda: exporter.format_map(redis.info())),
        ]
        yield {job: each.sockets[0].getsockname()[1] for job, each in zip(RECORDED, servers, strict=True)}
        for each in servers:
            each.close()


@pytest.fixture
def container(tmp_path: Path) -> Path:
    """The cgroup of a server's container."""
    folder = tmp_path / "cgroup"
    folder.mkdir()
    (folder / "cpu.stat").write_text("usage_usec 1500000\n")
    (folder / "memory.current").write_text("52428800\n")
    (folder / "memory.max").write_text("104857600\n")
    return folder


async def test_every_panel_has_data_with_its_legend_and_numbers_that_stats_tells_too(
    api: Kubectl, operator: Operator, redis_server: RedisServer, scripted: Scripted, start: Start,
    serve_lines: Serve, others: dict[str, int], container: Path, tmp_path: Path,
) -> None:  # fmt: skip
    door = free_port()
    egress = {"egress": [{"name": "api", "url": f"https://localhost:{free_port()}", "port": door}]}
    stores = {"limits_url": redis_server.url, "cache_url": redis_server.url}
    seen = partial(usage.of_cgroup, container)
    scripted.answer = lambda _: json_answer(ANSWER)
    sidecar = await start(scripted.port, CONFIG | egress, server_usage=seen, **stores)
    await sidecar.ready()
    lines = await serve_lines()
    client = await session(lines)
    health = int(operator._environment["MCPACE_HEALTH_PORT"])
    targets = [
        scrape("weather", sidecar.admin, namespace="ns", service="weather-metrics", pod=POD),
        scrape("lines", lines.admin, namespace="ns", service="lines-metrics", pod="lines-0"),
        scrape("operator", health, namespace="sys", service="mcpace-metrics", pod="mcpace-0"),
        scrape("kube-state-metrics", others["kube-state-metrics"]),
        scrape("redis_exporter", others["redis_exporter"], namespace="sys", instance="mcpace-redis-cache"),
    ]
    traffic = Traffic(scripted, sidecar, door)
    await traffic.flow(1)
    prometheus = Prometheus(tmp_path, targets, of_a_server(rateLimits={}) + of_a_release())
    ask = partial(asyncio.to_thread, prometheus.value)
    try:

        async def scraped() -> bool:
            return await ask("count(up == 1)") == len(targets)

        await until(scraped, "every target to be scraped")
        _, before = await sidecar.admin_get("/stats")
        await lines.call("echo", {}, **client)
        api.apply("weather", image="weather:1")
        await until(lambda: api.get("deployment/weather"), "the operator to have looked at a server")
        await traffic.flow(2)
        _, after = await sidecar.admin_get("/stats")
        calls = sum(tool["count"] for tool in after["calls"].values())

        async def counted() -> bool:
            return await ask('sum(mcp_tool_calls_total{service="weather-metrics"})') == calls

        await until(counted, f"{calls} calls to be counted")
        missing = list(asked())

        def none_missing() -> bool:
            missing[:] = [each for each in missing if not shown(each, prometheus)]
            return not missing

        try:
            await until(partial(asyncio.to_thread, none_missing), "data", pause=0.2)
        except AssertionError:
            raise AssertionError("\n".join(map(str, missing))) from None
        for each in asked():
            series = await until(partial(asyncio.to_thread, shown, each, prometheus), str(each))
            for labels, value in series:
                assert value >= 0, each
                assert each.unit != "percentunit" or value <= 1, (each, value)
                # The server's own breaker has no tool.
                assert each.labels - {"tool"} <= labels.keys(), (each, labels)
                assert each.kind != "table" or {"tool", "server"} & labels.keys(), (each, labels)
        await compared(prometheus, before, after)
    finally:
        prometheus.stop()
        await traffic.end()


async def compared(prometheus: Prometheus, before: Any, after: Any) -> None:
    """What panels say of the calls between two looks at /stats is what these say."""

    def grown(field: str, *tools: str) -> float:
        def total(stats: Any) -> float:
            return sum(
                each[field] for name, each in stats["calls"].items() if name in (tools or stats["calls"])
            )

        return total(after) - total(before)

    wanted = {
        "Hit ratio": grown("hits", "get") / grown("count", "get"),
        "Failed": grown("errors") / grown("count"),
        "Ready replicas": 1.0,
        "In flight": 1.0,
    }
    assert wanted["Hit ratio"] == 0.75
    for each in asked():
        if each.dashboard == "mcpace-server" and each.kind == "stat" and each.panel in wanted:
            ((_, value),) = await until(partial(asyncio.to_thread, shown, each, prometheus), str(each))
            assert math.isclose(value, wanted.pop(each.panel), rel_tol=0.02), each
    assert not wanted


def test_what_is_recorded_is_what_panels_read_of_others() -> None:
    others = re.compile(r"\b(?:kube|redis)_\w+")
    recorded = {name for _, text in RECORDED.values() for name in others.findall(text)}
    assert recorded == {name for each in asked() for name in others.findall(each.query)}
