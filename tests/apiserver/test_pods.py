"""What the operator asks of pods and of metrics-server's API, once a server is ready, and how often."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import msgspec
import pytest
from tests.kit.pods import pod
from tests.kit.sidecars import Start
from tests.kit.upstream import Scripted, json_answer
from tests.kit.waiting import until
from tools.cluster.kubectl import Kubectl

from mcpace_operator.children.context import Context, Credentials
from mcpace_operator.cluster.client import Cluster
from mcpace_operator.health import REQUESTS
from mcpace_operator.masterkey import MasterKey
from mcpace_operator.polling import pods as rounds
from mcpace_operator.polling.pods import Pods
from mcpace_operator.resource.models import parse_spec
from mcpace_operator.resource.server import Server
from mcpace_operator.resource.workload import Deployment, DeploymentStatus
from mcpace_operator.settings import OperatorSettings
from mcpace_sidecar.contract.report import Report

SETTINGS = OperatorSettings(master_key=MasterKey(b"k" * 32))
DEPLOYMENT = Deployment(
    generation=1,
    status=DeploymentStatus(
        observed_generation=1, replicas=1, updated_replicas=1, available_replicas=1, ready_replicas=1
    ),
)
METRICS_API = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: pods.metrics.k8s.io
  annotations: {api-approved.kubernetes.io: "unapproved, it stands for metrics-server's"}
spec:
  group: metrics.k8s.io
  scope: Namespaced
  names: {kind: PodMetrics, plural: pods, singular: podmetric}
  versions:
    - name: v1beta1
      served: true
      storage: true
      schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
"""


@pytest.fixture
async def cluster(api: Kubectl, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cluster]:
    monkeypatch.setenv("KUBECONFIG", str(api.kubeconfig))
    cluster = await Cluster.connect()
    yield cluster
    await cluster.close()
    api.ok("delete", "mcpservers,pods", "--all", "--force", "--grace-period=0")


def server(api: Kubectl, port: int) -> Server:
    api.apply("weather", image="weather:1", sidecar={"adminPort": port})
    return Server.from_body(api.get("mcpserver/weather"))


def asked() -> float:
    """Requests that this process has made to the API server."""
    return sum(
        s.value for metric in REQUESTS.collect() for s in metric.samples if s.name.endswith("_total")
    )


@asynccontextmanager
async def watching(cluster: Cluster, context: Context) -> AsyncIterator[Pods]:
    """The rounds, one each second."""
    pods = Pods(cluster, SETTINGS, lambda _: None)
    pods.want(context, DEPLOYMENT)
    keeping = asyncio.get_running_loop().create_task(pods.keep())
    try:
        yield pods
    finally:
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping
        await pods.close()


def context_of(server: Server) -> Context:
    return Context(server, parse_spec(server.spec), SETTINGS, Credentials())


@pytest.fixture
async def answer(weather: int, start: Start, scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """What a real sidecar says after a call; `scripted` says it as the pods do."""
    monkeypatch.setattr(rounds, "SHORTEST_ROUND", 0.0)
    sidecar = await start(weather, {})
    await sidecar.ready()
    await sidecar.call("forecast", {"city": "Oslo"})
    _, told = await sidecar.admin_get("/stats")
    report = msgspec.json.decode(json.dumps(told), type=Report)
    assert report.server is not None
    assert report.server.name == "weather"
    assert (report.slots.taken, report.sessions) == (0, 0)
    answer = json_answer(json.dumps(told).encode())
    scripted.answer = lambda _: answer
    return answer


async def test_a_ready_server_is_listed_once_and_its_sidecars_are_asked_each_round(
    api: Kubectl, cluster: Cluster, scripted: Scripted, answer: bytes
):
    context = context_of(server(api, scripted.port))
    pod(api, "weather-1")
    async with watching(cluster, context) as pods:
        before = asked()
        await until(lambda: len(scripted.heard) >= 4, "four rounds")
        assert asked() - before == 2, "the pods, and the API of metrics-server"
        told = pods.told[context.server.key]
        assert told.live is not None
        assert told.live.replicas_asked == 1
        assert told.live.performance.calls
        assert told.live.memory == (), "here is no metrics-server"

        pod(api, "weather-2", "127.0.0.2")  # another replica: the Deployment says so
        status = msgspec.structs.replace(
            DEPLOYMENT.status, replicas=2, updated_replicas=2, available_replicas=2
        )
        pods.want(context, dataclasses.replace(DEPLOYMENT, wanted=2, status=status))
        await until(lambda: asked() - before == 3, "the pods to be listed again")


async def test_pods_are_listed_again_when_one_is_silent(
    api: Kubectl, cluster: Cluster, scripted: Scripted, answer: bytes
):
    context = context_of(server(api, scripted.port))
    pod(api, "weather-1")
    async with watching(cluster, context):
        await until(lambda: scripted.heard, "a round")
        before = asked()
        await scripted.stop()
        await until(lambda: asked() > before, "the pods to be listed again")


async def test_the_memory_of_all_servers_is_asked_for_at_once(
    api: Kubectl, cluster: Cluster, scripted: Scripted, answer: bytes
):
    api.ok("apply", "-f", "-", stdin=METRICS_API)
    try:
        api.ok("wait", "--for=condition=Established", "crd/pods.metrics.k8s.io", "--timeout=30s")
        for name, used in (("weather-1", "3Mi"), ("weather-2", "5Mi"), ("foreign", "9Mi")):
            body = {
                "apiVersion": "metrics.k8s.io/v1beta1", "kind": "PodMetrics",
                "metadata": {"name": name, "namespace": "default", "labels": {"mcpace.dev/server": "weather"}},
                "containers": [
                    {"name": "mcpace", "usage": {"cpu": "1m", "memory": "50Mi"}},
                    {"name": "server", "usage": {"cpu": "1m", "memory": used}},
                ],
            }  # fmt: skip
            api.ok("create", "-f", "-", stdin=json.dumps(body))
        context = context_of(server(api, scripted.port))
        pod(api, "weather-1")
        pod(api, "weather-2")
        async with watching(cluster, context) as pods:
            await until(lambda: context.server.key in pods.told, "a round")
            live = pods.told[context.server.key].live
            assert live is not None
            assert live.memory == (5 << 20,), "the largest server container among its own pods"
    finally:
        api.ok("delete", "crd", "pods.metrics.k8s.io")
