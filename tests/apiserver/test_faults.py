"""The operator when the API server, the network or the operator itself fails."""

from __future__ import annotations

import gc
import json
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from tests.kit.faults import WRITES, FaultyProxy, is_lease, is_watch, status
from tests.kit.operator import Operator
from tests.kit.redis import RedisServer
from tests.kit.repeating import repetitions
from tests.kit.waiting import STARTING, until
from tools.cluster.controlplane import ControlPlane
from tools.cluster.kubectl import Kubectl, manifest

from mcpace_operator.cluster.leader import DURATION

# A killed operator leaves connections half open, and a proxy that ends cannot close them in order.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

SPEC: dict[str, Any] = {"image": "weather:1", "rateLimits": {}, "replicas": 2}
CHILDREN = (
    "serviceaccount/weather",
    "secret/weather-mcpace",
    "configmap/weather",
    "service/weather",
    "service/weather-metrics",
    "deployment/weather",
    "poddisruptionbudget/weather",
)


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


def state(api: Kubectl) -> dict[str, Any]:
    """Everything that was made, without what differs from one object to the next."""
    made = {}
    for what in CHILDREN:
        body = api.get(what)
        if body is None:
            continue
        metadata = body["metadata"]
        annotations = {
            k: v for k, v in metadata.get("annotations", {}).items() if k.startswith("mcpace.dev/")
        }
        made[what] = {
            "labels": metadata["labels"],
            "annotations": sorted(annotations),
            "spec": body.get("spec"),
        }
        for name in ("clusterIP", "clusterIPs"):
            (made[what]["spec"] or {}).pop(name, None)
        if what == "deployment/weather":
            made[what]["spec"]["template"]["metadata"].pop("annotations")
    return made


async def whole(api: Kubectl) -> dict[str, Any]:
    await until(lambda: len(state(api)) == len(CHILDREN), "every child", STARTING)
    await until(lambda: api.get("deployment/weather")["spec"]["replicas"] == 2, "two replicas", STARTING)

    def told() -> int | None:
        return (api.get("mcpserver/weather").get("status") or {}).get("replicas")

    await until(lambda: told() == 2, "them to be told", STARTING)
    return state(api)


async def at_rest(api: Kubectl, operator: Operator) -> Operator:
    """The operator, with a server that is as it should be."""
    api.apply("weather", **SPEC)
    await whole(api)
    await operator.settled(api)
    return operator


class OnceForEachWatch:
    """Answers the next watch of each kind with this event, and none after it."""

    def __init__(self, event: dict[str, Any]) -> None:
        self._text = json.dumps(event) + "\n"
        self._told: set[str] = set()

    def __call__(self, request: web.Request) -> web.Response | None:
        if not is_watch(request) or request.path in self._told:
            return None
        self._told.add(request.path)
        return web.Response(text=self._text)


async def test_a_restart_writes_nothing_at_all(api: Kubectl, proxy: FaultyProxy, begin):
    operator = await at_rest(api, begin())
    operator.stop()
    written, starts = [], operator.log.read_text().count("Watching 1 servers")

    def note(request: web.Request, _: int) -> None:
        if request.method in WRITES:
            written.append(f"{request.method} {request.path}")

    proxy.seen = note
    operator.start()
    await until(
        lambda: operator.log.read_text().count("Watching 1 servers") == starts + 1,
        "the operator to be back",
    )
    await operator.settled(api)
    assert written == []


class Deadly:
    """Kills the operator after its n-th write."""

    def __init__(self, operator: Operator, number: int) -> None:
        self.paths: list[str] = []
        self.dead = False
        self._operator = operator
        self._number = number

    def __call__(self, request: web.Request, _: int) -> None:
        if request.method in WRITES and not is_lease(request):
            self.paths.append(request.path)
            if len(self.paths) == self._number:
                self._operator.kill()
                self.dead = True

    def have_killed_or(self, api: Kubectl) -> bool:
        return self.dead or len(state(api)) == len(CHILDREN)


@pytest.mark.repeated
@pytest.mark.timeout(300)
async def test_killed_after_any_write_it_converges_to_the_same_state(
    api: Kubectl, proxy: FaultyProxy, begin
):
    """After each of them in turn where tests repeat in full; after the first, the last and every fourth elsewhere."""
    operator = begin()
    writes = proxy.seen = Deadly(operator, 0)
    api.apply("weather", **SPEC)
    wanted = await whole(api)
    await operator.settled(api)
    operator.kill()
    count = len(writes.paths)
    assert count > len(CHILDREN) + 1, "the children, the replicas, the status"
    for deadly in sorted({*range(1, count + 1, 1 if repetitions(10) == 10 else 4), count}):
        api.ok("delete", "mcpserver", "weather")
        await until(lambda: not state(api), "every child to go", STARTING)
        writes = proxy.seen = Deadly(operator, deadly)
        api.apply("weather", **SPEC)
        operator.start()
        await until(partial(writes.have_killed_or, api), f"write {deadly}", STARTING)
        if not writes.dead:
            await operator.settled(api)  # what it says at the end may be the deadly one
            operator.kill()
        proxy.seen = lambda _, __: None
        operator.start()
        assert await whole(api) == wanted, f"killed after write {deadly}: {writes.paths}"
        await operator.settled(api)
        operator.kill()


async def test_watches_that_are_closed_at_once_make_no_hot_loop(api: Kubectl, proxy: FaultyProxy, begin):
    await at_rest(api, begin())
    proxy.fault = lambda request: web.Response(text="") if is_watch(request) else None
    before, began = proxy.watches(), time.monotonic()
    proxy.drop_watches()
    await until(lambda: time.monotonic() > began + 10, "ten seconds")
    kinds = 9
    assert proxy.watches() - before <= kinds * 6, "0.5 + 1 + 2 + 4 s: five in ten seconds, of each kind"
    proxy.fault = lambda _: None
    api.ok("delete", "service", "weather")
    await until(lambda: api.get("service/weather"), "the Service to be put back", STARTING)


async def test_a_child_deleted_while_no_watch_ran_is_put_back(api: Kubectl, proxy: FaultyProxy, begin):
    await at_rest(api, begin())
    gone = {
        "type": "ERROR",
        "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"},
    }
    proxy.fault = lambda request: status(503) if is_watch(request) else None
    proxy.drop_watches()
    api.ok("delete", "service", "weather")
    proxy.fault = OnceForEachWatch(gone)
    await until(lambda: api.get("service/weather"), "the Service to be put back", STARTING)


@pytest.mark.parametrize("code", [429, 403, 500, 503])
async def test_an_api_server_that_refuses_everything_for_a_while_is_outlived(
    api: Kubectl, proxy: FaultyProxy, begin, code: int
):
    await at_rest(api, begin())
    headers = {"Retry-After": "1"} if code == 429 else {}
    proxy.fault = lambda _: status(code, **headers)
    proxy.drop_watches()
    before, began = sum(proxy.requests.values()), time.monotonic()
    api.ok("delete", "configmap", "weather")
    await until(lambda: time.monotonic() > began + 10, "ten seconds of it")
    assert sum(proxy.requests.values()) - before < 150, proxy.requests
    proxy.fault = lambda _: None
    await until(lambda: api.get("configmap/weather"), "what was missed to be repaired", 90)
    api.apply("weather", **SPEC | {"replicas": 3})
    await until(lambda: api.get("deployment/weather")["spec"]["replicas"] == 3, "work to go on", STARTING)


async def test_kopf_that_ends_at_its_start_is_started_again(api: Kubectl, proxy: FaultyProxy, begin):
    proxy.fault = lambda request: status(415) if request.path == "/apis/policy/v1" else None
    operator = begin()
    await until(lambda: "Watching again" in operator.log.read_text(), "watching to begin anew", STARTING)
    proxy.fault = lambda _: None
    api.apply("weather", **SPEC)
    await whole(api)


async def test_an_error_event_ends_no_watching_for_good(api: Kubectl, proxy: FaultyProxy, begin):
    operator = await at_rest(api, begin())
    error = {"type": "ERROR", "object": {"kind": "Status", "code": 500, "message": "etcd is sad"}}
    proxy.fault = OnceForEachWatch(error)
    proxy.drop_watches()
    await until(lambda: "Watching again" in operator.log.read_text(), "watching to begin anew", STARTING)
    api.ok("delete", "service", "weather")
    await until(lambda: api.get("service/weather"), "the Service to be put back", STARTING)


def lease(api: Kubectl) -> dict[str, datetime]:
    """When the Lease was acquired and renewed, by its holder's clock."""
    (found,) = [each["spec"] for each in api.items("leases") if "mcpace" in each["metadata"]["name"]]
    return {name: datetime.fromisoformat(found[name]) for name in ("acquireTime", "renewTime")}


async def test_of_two_operators_one_works_and_the_other_takes_over(api: Kubectl, proxy: FaultyProxy, begin):
    one = begin("one", MCPACE_LEASE_NAMESPACE="default", MCPACE_IDENTITY="one")
    await until(lambda: "Leading, as one" in one.log.read_text(), "the first to lead", STARTING)
    two = begin("two", MCPACE_LEASE_NAMESPACE="default", MCPACE_IDENTITY="two")
    await until(lambda: "Waiting: one leads" in two.log.read_text(), "the second to wait", STARTING)
    api.apply("weather", **SPEC)
    await whole(api)
    assert "applied" not in two.log.read_text()
    one.kill()
    last = lease(api)
    api.apply("weather", **SPEC | {"replicas": 3})
    await until(
        lambda: api.get("deployment/weather")["spec"]["replicas"] == 3, "the other to go on", STARTING
    )
    waited = lease(api)["acquireTime"] - last["renewTime"]
    assert timedelta(seconds=DURATION) <= waited < timedelta(seconds=2 * DURATION)
    one.start()
    await until(lambda: "Waiting: two leads" in one.log.read_text(), "the first to wait in turn", STARTING)
    two.stop(signal.SIGTERM)
    last = lease(api)
    await until(
        lambda: one.log.read_text().count("Leading, as one") == 2, "the Lease to be handed over", STARTING
    )
    taken = lease(api)["acquireTime"]
    assert taken - last["renewTime"] < timedelta(seconds=DURATION), "released, not expired"


async def test_a_leader_that_cannot_renew_its_lease_ends(api: Kubectl, proxy: FaultyProxy, begin):
    operator = begin("one", MCPACE_LEASE_NAMESPACE="default", MCPACE_IDENTITY="one")
    await until(lambda: "Leading, as one" in operator.log.read_text(), "it to lead", STARTING)
    proxy.fault = lambda request: status(503) if is_lease(request) else None
    assert await until(operator.ended, "it to end", STARTING) != 0
    assert "Another operator may lead" in operator.log.read_text()


async def test_a_poisoned_server_delays_no_other(api: Kubectl, proxy: FaultyProxy, begin):
    crd = yaml.safe_load(api.ok("get", "crd", "mcpservers.mcpace.dev", "-o", "yaml"))
    loose = json.loads(json.dumps(crd))
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    loose["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = anything
    for document in (crd, loose):
        document["metadata"] = {"name": "mcpservers.mcpace.dev"}
    try:
        api.ok("replace", "-f", "-", stdin=yaml.safe_dump(loose))
        poison = {"image": 5, "rateLimits": "many", "autoscaling": [], "was": {"known": "once"}}
        await until(
            lambda: (
                api.run("apply", "-f", "-", stdin=manifest("poison", "default", poison)).returncode == 0
            ),
            "the loose schema to be known",
            30,
        )
        broken = {"conditions": "none", "performance": 5, "observedGeneration": "what"}
        api.ok(
            "patch",
            "mcpserver",
            "poison",
            "--subresource=status",
            "--type=merge",
            "-p",
            json.dumps({"status": broken}),
        )
        operator = begin()
        for number in range(10):
            api.apply(f"good-{number}", **SPEC)
        await until(lambda: len(api.items("deployments")) == 10, "the others to converge", STARTING)
        said = await until(
            lambda: isinstance(c := api.get("mcpserver/poison")["status"].get("conditions"), list) and c,
            "what is wrong",
        )
        (ready,) = [c for c in said if c["type"] == "Ready"]
        assert ready["reason"] == "InvalidSpec"
        assert "image" in ready["message"]
        await operator.settled(api)
        assert "Traceback" not in operator.log.read_text()
        assert operator.log.read_text().count("poison") < 5, "nothing is tried again until it changes"
    finally:
        api.run("delete", "mcpserver", "poison")
        api.ok("replace", "-f", "-", stdin=yaml.safe_dump(crd))


async def test_an_api_server_restarted_under_a_hundred_servers(
    plane: ControlPlane, api: Kubectl, proxy: FaultyProxy, begin
):
    begin()
    documents = [manifest(f"many-{number}", "default", SPEC) for number in range(100)]
    api.ok("apply", "-f", "-", stdin="\n---\n".join(documents))
    await until(lambda: len(api.items("poddisruptionbudgets")) == 100, "a hundred servers", 90)
    plane.restart_api_server()
    api.ok("delete", "configmap", "many-7")
    api.apply("many-8", **SPEC | {"replicas": 5})
    before = sum(proxy.requests.values())
    await until(lambda: api.get("configmap/many-7"), "what was missed to be repaired", 90)
    await until(lambda: api.get("deployment/many-8")["spec"]["replicas"] == 5, "work to go on", STARTING)
    assert sum(proxy.requests.values()) - before < 500


async def unready(operator: Operator, words: str) -> None:
    def said() -> bool:
        code, problems = operator.readiness()
        return code == 503 and any(words in problem for problem in problems)

    await until(said, f"unreadiness for {words!r}")


async def test_an_operator_that_may_list_nothing_is_not_ready_leading_or_waiting(
    api: Kubectl, proxy: FaultyProxy, begin
):
    def forbid(request: web.Request) -> web.Response | None:
        return status(403, "services is forbidden") if request.path.endswith("/services") else None

    proxy.fault = forbid
    elected = {"MCPACE_LEASE_NAMESPACE": "default"}
    leader = begin("leader", **elected, MCPACE_IDENTITY="a")
    await until(lambda: "Leading" in leader.log.read_text(), "a leader", STARTING)
    waiting = begin("waiting", **elected, MCPACE_IDENTITY="b")
    await until(lambda: "Waiting" in waiting.log.read_text(), "a second one to wait", STARTING)
    await unready(leader, "services is forbidden")
    await unready(waiting, "services is forbidden")
    proxy.fault = lambda _: None
    for operator in (leader, waiting):
        await until(lambda operator=operator: operator.readiness() == (200, []), "readiness", STARTING)


async def test_an_operator_that_may_have_no_lease_is_not_ready(api: Kubectl, proxy: FaultyProxy, begin):
    proxy.fault = lambda request: status(403, "leases is forbidden") if is_lease(request) else None
    operator = begin(MCPACE_LEASE_NAMESPACE="default", MCPACE_IDENTITY="c")
    await unready(operator, "leases is forbidden")
    proxy.fault = lambda _: None
    await until(lambda: operator.readiness() == (200, []), "readiness", STARTING)


async def test_an_operator_whose_watches_do_not_begin_is_not_ready(api: Kubectl, proxy: FaultyProxy, begin):
    proxy.fault = lambda request: status(503) if is_watch(request) else None
    operator = begin()
    await until(lambda: "Watching 0 servers" in operator.log.read_text(), "the first reading", STARTING)
    await unready(operator, "0 of 8 watches are open")
    proxy.fault = lambda _: None
    await until(lambda: operator.readiness() == (200, []), "readiness", STARTING)


async def test_who_takes_the_operators_rights_in_one_namespace_stops_it_in_no_other(
    api: Kubectl, proxy: FaultyProxy, begin
):
    for namespace in ("one", "two"):
        api.run("create", "namespace", namespace)

    def forbid(request: web.Request) -> web.Response | None:
        return status(403, "this is forbidden") if "/namespaces/one/" in request.path else None

    api.apply("weather", "one", **SPEC)
    proxy.fault = forbid
    operator = begin(MCPACE_NAMESPACES="one,two")
    api.apply("weather", "two", **SPEC)
    await until(lambda: api.get("deployment/weather", "two"), "the other one's server", STARTING)
    await until(lambda: operator.readiness() == (200, []), "readiness", STARTING)
    assert "The namespace one is left out: this is forbidden" in operator.log.read_text()
    assert api.get("deployment/weather", "one") is None
    proxy.fault = lambda _: None
    await until(lambda: api.get("deployment/weather", "one"), "the rights to be noticed", STARTING)
    api.ok("delete", "configmap", "weather", "-n", "one")
    await until(lambda: api.get("configmap/weather", "one"), "it to be watched again", STARTING)
