"""From the first version to this one and back, under calls. After the uninstall, because it installs."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import pytest
from tests.e2e.cluster import ROOT, SYSTEM, Cluster, until
from tools.cluster import images
from tools.version import version

IMAGE = "mcpace/example-weather:0.1.0"
OSLO = {"city": "Oslo"}
CAUSE = [{"name": "CAUSE", "value": "1"}]
URL = "http://steady.default.svc/mcp"
THIS = str(ROOT / "charts/mcpace")
OLD_SIDECAR = ("--set=sidecar.image.tag=first",)
OLD = ("--set=operator.image.tag=first", *OLD_SIDECAR)
WAIT = ("--wait", "--timeout=150s")


@pytest.fixture(scope="module")
def first(cluster: Cluster) -> Iterator[str]:
    """The first version's chart, installed, with a server of two replicas."""
    source = images.first()
    if source is None or cluster.foreign:
        pytest.skip("the first version's images are not here")
    cluster.helm("uninstall", "mcpace", "-n", SYSTEM, "--ignore-not-found", *WAIT)
    cluster.run("delete", "crd", "mcpservers.mcpace.dev")
    cluster.run("delete", "secret", "mcpace", "-n", SYSTEM)  # the first version draws its own
    chart = str(source / "charts/mcpace")
    cluster.helm(
        "install", "mcpace", "-n", SYSTEM, "--create-namespace", chart, *cluster.values(), *OLD, *WAIT
    )
    cluster.apply("steady", image=IMAGE, replicas=2)
    cluster.ready("steady")
    yield chart
    cluster.run("delete", "mcpserver", "steady")
    cluster.helm("uninstall", "mcpace", "-n", SYSTEM, "--ignore-not-found", *WAIT)
    cluster.ok("delete", "crd", "mcpservers.mcpace.dev")


def answers(cluster: Cluster) -> float:
    """How many calls the sidecars of the running pods have counted."""
    sample = 'mcp_tool_calls_total{status="success",tool="forecast"}'
    return sum(cluster.metrics(pod).get(sample, 0) for pod in cluster.pods("steady"))


def flow(cluster: Cluster, asking: Future[Any]) -> None:
    """Wait until calls are answered."""
    before = answers(cluster)
    until(lambda: answers(cluster) > before, "the calls to flow", calls=asking)


@contextmanager
def called(cluster: Cluster) -> Iterator[None]:
    """Four clients call the server all the while, and not one call may fail."""
    cluster.ok("exec", "client", "--", "rm", "-f", "/tmp/enough")
    asking = cluster.ask_meanwhile(
        urls=[URL],
        clients=4,
        seconds=300,
        until="/tmp/enough",
        tool="forecast",
        arguments=OSLO,
        mode="2026-07-28",
    )
    try:
        flow(cluster, asking)
        yield
        flow(cluster, asking)
    finally:
        cluster.ok("exec", "client", "--", "touch", "/tmp/enough")
        outcomes = asking.result(60)
    failed = [o for o in outcomes if not o["ok"]]
    assert not failed, f"{len(failed)} of {len(outcomes)} calls failed: {failed[:3]}"


def pods(cluster: Cluster) -> set[str]:
    return {p["metadata"]["uid"] for p in cluster.pods("steady")}


def sidecars(cluster: Cluster) -> set[str]:
    """The images of the sidecars of all running pods."""
    return {
        container["image"]
        for pod in cluster.pods("steady")
        for container in pod["spec"]["initContainers"]
        if container["name"] == "mcpace"
    }


def upgraded(cluster: Cluster, chart: str, *arguments: str) -> None:
    cluster.helm("upgrade", "mcpace", "-n", SYSTEM, chart, *cluster.values(), *arguments, *WAIT)


def rolled(cluster: Cluster, image: str) -> None:
    """Wait until every pod has this sidecar, and is ready."""
    until(lambda: sidecars(cluster) == {image} and len(pods(cluster)) == 2, f"pods with {image}", 120)
    cluster.ready("steady")


def scaled(cluster: Cluster, replicas: int) -> None:
    """Let the operator do a little work, and wait for it."""
    cluster.apply("steady", image=IMAGE, replicas=replicas, env=CAUSE)
    until(lambda: len(pods(cluster)) == replicas, f"{replicas} pods")


def limited(cluster: Cluster, per_minute: int, **spec: Any) -> None:
    """Limit the server's clients."""
    tiers = [{"name": "free", "requestsPerMinute": per_minute}]
    cluster.apply("steady", image=IMAGE, replicas=2, rateLimits={"tiers": tiers}, **spec)


def judged(cluster: Cluster, tool: str = "forecast") -> int:
    """How many of ten calls at once are answered."""
    outcomes = cluster.ask(urls=[URL], calls=10, tool=tool, arguments=OSLO)
    assert all(o["ok"] or o["code"] == 42900 for o in outcomes), outcomes
    return sum(o["ok"] for o in outcomes)


def test_a_new_operator_takes_over_old_pods_as_they_are(cluster: Cluster, first: str):
    before = pods(cluster)
    key = cluster.get("secret/mcpace", SYSTEM)["data"]["masterKey"]
    with called(cluster):
        upgraded(cluster, THIS)
        until(lambda: "Progressing" in cluster.conditions("steady"), "the new operator's words")
        until(lambda: cluster.get("service/steady-metrics"), "what the new operator adds")
        cluster.ready("steady")
    assert pods(cluster) == before
    assert sidecars(cluster) == {images.FIRST_SIDECAR}
    assert cluster.get("secret/mcpace", SYSTEM)["data"]["masterKey"] == key


def test_old_sidecars_do_what_a_new_operator_tells_them(cluster: Cluster, first: str):
    before = pods(cluster)
    limited(cluster, 4, concurrency={"maxInFlight": 32})  # a field that they do not know
    until(lambda: judged(cluster) < 10, "the old sidecars to limit", 120)
    status = cluster.get("mcpserver/steady")["status"]
    assert status["serverInfo"]["name"] == "weather"
    assert pods(cluster) == before
    cluster.apply("steady", image=IMAGE, replicas=2)


def test_pods_take_the_new_sidecar_when_the_manifest_gives_cause(cluster: Cluster, first: str):
    with called(cluster):
        cluster.apply("steady", image=IMAGE, replicas=2, env=CAUSE)
        rolled(cluster, images.SIDECAR)
    until(
        lambda: (cluster.get("mcpserver/steady")["status"].get("performance") or {}).get("p95"), "numbers"
    )


def system(cluster: Cluster) -> dict[str, tuple[str, bool]]:
    """The pods of the release, who they are, and whether they are ready."""
    return {
        pod["metadata"]["name"]: (
            pod["metadata"]["uid"],
            any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"]["conditions"]),
        )
        for pod in cluster.items("pods", "-n", SYSTEM)
        if not pod["metadata"].get("deletionTimestamp") and pod["status"]["phase"] == "Running"
    }


@pytest.mark.parametrize("part", ["operator", "redis"])
def test_an_upgrade_to_an_image_that_is_not_there_leaves_everything_at_work(
    cluster: Cluster, first: str, part: str
):
    before = system(cluster), pods(cluster)
    with called(cluster):
        refused = cluster.helm_run(
            "upgrade", "mcpace", "-n", SYSTEM, THIS, *cluster.values(), f"--set={part}.image.tag=none",
            "--atomic", "--timeout=20s",
        )  # fmt: skip
        assert refused.returncode != 0, refused.stdout
    assert (system(cluster), pods(cluster)) == before, refused.stderr
    scaled(cluster, 3)
    scaled(cluster, 2)


def test_a_rollback_brings_the_first_version_back_under_calls(cluster: Cluster, first: str):
    with called(cluster):
        cluster.helm("rollback", "mcpace", "1", "-n", SYSTEM, *WAIT)
        rolled(cluster, images.FIRST_SIDECAR)


def test_new_sidecars_do_what_an_old_operator_tells_them(cluster: Cluster, first: str):
    with called(cluster):
        upgraded(cluster, first, "--set=operator.image.tag=first", f"--set=sidecar.image.tag={version()}")
        rolled(cluster, images.SIDECAR)
    limited(cluster, 4)
    until(lambda: judged(cluster) < 10, "the new sidecars to limit", 120)


def test_up_again_and_the_release_gone_the_kept_servers_answer_on(cluster: Cluster, first: str):
    cluster.apply("steady", image=IMAGE, replicas=2)
    upgraded(cluster, THIS)
    cluster.ready("steady")
    before = pods(cluster)
    with called(cluster):
        cluster.helm("uninstall", "mcpace", "-n", SYSTEM, *WAIT)
    assert pods(cluster) == before
