"""The operator when the API server, the network or the operator itself fails."""

from __future__ import annotations

import json
import time
from functools import partial
from typing import Any

import pytest
import yaml
from aiohttp import web
from tests.kit.faults import WRITES, FaultyProxy, is_lease, is_watch, status
from tests.kit.faulty import CHILDREN, SPEC, at_rest, state, whole
from tests.kit.operator import Operator
from tests.kit.repeating import repetitions
from tests.kit.waiting import STARTING, until
from tools.cluster.controlplane import ControlPlane
from tools.cluster.kubectl import Kubectl, manifest

# A killed operator leaves connections half open, and a proxy that ends cannot close them in order.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


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
    assert written == [], written


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
