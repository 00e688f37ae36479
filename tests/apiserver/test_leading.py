"""Who of several operators works, and when one says that it is not ready."""

from __future__ import annotations

import signal
from datetime import datetime, timedelta

import pytest
from aiohttp import web
from tests.kit.faults import FaultyProxy, is_lease, is_watch, status
from tests.kit.faulty import SPEC, whole
from tests.kit.operator import Operator
from tests.kit.waiting import STARTING, until
from tools.cluster.kubectl import Kubectl

from mcpace_operator.cluster.leader import DURATION

# A killed operator leaves connections half open, and a proxy that ends cannot close them in order.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


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
